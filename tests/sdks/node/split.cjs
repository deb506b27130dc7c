// Split's Node.js SDK at work. It is told what to do on standard input, as JSON: where the flags are
// (`url` and `key` of Split's API, or the URL `redis` and `prefix`), which `flags` and flag `sets` to
// evaluate for which `contexts`, and which attributes are `moments`, in seconds: this SDK takes
// milliseconds. It prints a line for each context.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const { SplitFactory } = require('@splitsoftware/splitio');

const NOWHERE = 'http://127.0.0.1:9';

function settings({ redis, prefix, url, key }) {
  const sync = { impressionsMode: 'NONE' };
  if (redis) {
    return {
      core: { authorizationKey: 'redis' },
      mode: 'consumer',
      storage: { type: 'REDIS', prefix, options: { url: redis } },
      sync,
    };
  }
  return {
    core: { authorizationKey: key },
    urls: { sdk: url, events: NOWHERE, auth: NOWHERE, streaming: NOWHERE, telemetry: NOWHERE },
    streamingEnabled: false,
    startup: { readyTimeout: 20 },
    // The simulator ends each connection after its answer.
    sync: { ...sync, requestOptions: { agent: new http.Agent({ keepAlive: false }) } },
  };
}

function attributesOf({ attributes }, moments) {
  const changed = { ...attributes };
  for (const name of moments) {
    if (name in changed) changed[name] *= 1000;
  }
  return changed;
}

// As Python's SDK has them: treatment and configuration.
function pairs(results) {
  return Object.fromEntries(
    Object.entries(results).map(([name, { treatment, config }]) => [name, [treatment, config]]),
  );
}

async function main() {
  const task = JSON.parse(fs.readFileSync(0, 'utf8'));
  const factory = SplitFactory(settings(task));
  const client = factory.client();
  await client.ready();
  for (const context of task.contexts) {
    const attributes = attributesOf(context, task.moments);
    const key = { matchingKey: context.key, bucketingKey: context.bucketing || context.key };
    const sets = {};
    for (const name of task.sets) {
      sets[name] = pairs(await client.getTreatmentsWithConfigByFlagSet(key, name, attributes));
    }
    const flags = pairs(await client.getTreatmentsWithConfig(key, task.flags, attributes));
    const names = (await factory.manager().names()).sort();
    console.log(JSON.stringify({ flags, sets, names }));
  }
  if (task.redis) await client.destroy(); // let it write what it has counted
  process.exit(0); // it would try to tell Split how it went
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
