import { createRequire } from 'node:module';
import LaunchDarkly from '@launchdarkly/node-server-sdk';

const require = createRequire(import.meta.url); // `import` does not look into layers
const flagstore = require('flagstore');
const { featureStore } = require('flagstore/launchdarkly');

const flags = flagstore.client('prod');
const client = LaunchDarkly.init('no-key', {
  featureStore: featureStore(flags, LaunchDarkly),
  useLdd: true, // daemon mode: reads the store and opens no connection to LaunchDarkly
  sendEvents: false,
});
await flags.loaded(); // while the function starts, with a whole core

export const handler = async (event) => {
  const context = { kind: 'user', key: event.user, plan: event.plan };
  return { newCheckout: await client.variation('new-checkout', context, false) };
};
