// LaunchDarkly's Node.js SDK at work. It is told what to do on standard input, as JSON: where the
// flags are (`file`, or the URL `redis` and `prefix`), and which `flags` to evaluate for which `contexts`. It prints a line for each context.
'use strict';

const fs = require('node:fs');
const ld = require('@launchdarkly/node-server-sdk');

function source({ file, redis, prefix }) {
  if (file) {
    return { updateProcessor: new ld.FileDataSourceFactory({ paths: [file] }).getFactory() };
  }
  const { RedisFeatureStore } = require('@launchdarkly/node-server-sdk-redis');
  const { hostname, port, username, password } = new URL(redis);
  const redisOpts = { host: hostname, port: Number(port), username, password };
  // "LDD" is daemon mode: the SDK reads its store, and asks LaunchDarkly nothing.
  return { useLdd: true, featureStore: RedisFeatureStore({ redisOpts, prefix }) };
}

async function main() {
  const task = JSON.parse(fs.readFileSync(0, 'utf8'));
  const logger = ld.basicLogger({ level: 'error', destination: console.error });
  const client = ld.init('no-key', {
    ...source(task),
    logger,
    sendEvents: false,
    diagnosticOptOut: true,
  });
  await client.waitForInitialization({ timeout: 10 });
  for (const context of task.contexts) {
    const flags = {};
    for (const flag of task.flags) {
      const detail = await client.variationDetail(flag, context, 'the default');
      flags[flag] = [detail.value, detail.variationIndex, detail.reason];
    }
    const state = await client.allFlagsState(context, { withReasons: true });
    console.log(JSON.stringify({ valid: state.valid, flags, all: state.toJSON() }));
  }
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
