// Split's Node.js SDK, as it reports usage. It is told on standard input, as JSON: the URL `redis` and the
// `prefix` for consumer mode, or `url` and `key` of Split's API, to which it then reports by itself; the
// impressions `mode`, a `flag`, and how many `keys` to evaluate it for, each as often as `times` says, and to
// track an event for.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const { SplitFactory } = require('@splitsoftware/splitio');

const NOWHERE = 'http://127.0.0.1:9';

function settings({ redis, prefix, url, key, mode }) {
  const sync = { impressionsMode: mode };
  if (redis) {
    const storage = { type: 'REDIS', prefix, options: { url: redis } };
    return { core: { authorizationKey: 'redis' }, mode: 'consumer', storage, sync };
  }
  return {
    core: { authorizationKey: key },
    urls: { sdk: url, events: url, auth: NOWHERE, streaming: NOWHERE, telemetry: url },
    streamingEnabled: false,
    // The simulator ends each connection after its answer.
    sync: { ...sync, requestOptions: { agent: new http.Agent({ keepAlive: false }) } },
  };
}

async function main() {
  const task = JSON.parse(fs.readFileSync(0, 'utf8'));
  const { flag, keys, times } = task;
  const client = SplitFactory(settings(task)).client();
  await client.ready();
  for (let key = 0; key < keys; key += 100) {
    const some = Array.from({ length: Math.min(100, keys - key) }, (_, n) => `key-${key + n}`);
    for (let time = 0; time < times; time += 1) {
      await Promise.all(some.map((each) => client.getTreatment(each, flag)));
    }
    await Promise.all(some.map((each) => client.track(each, 'user', 'paid', 1.5)));
  }
  await client.destroy();
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
