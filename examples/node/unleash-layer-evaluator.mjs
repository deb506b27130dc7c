// As unleash-layer.mjs, but loads only the part of unleash-client that evaluates: half the cold start.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url); // `import` does not look into layers
const { default: UnleashClient } = require('unleash-client/lib/client');
const { defaultStrategies } = require('unleash-client/lib/strategy');
const flagstore = require('flagstore');
const { repository } = require('flagstore/unleash');

const features = repository(flagstore.client('prod'));
const unleash = new UnleashClient(features, defaultStrategies);
unleash.on('error', console.error); // without a listener, a malformed feature throws
await features.start();

export const handler = async (event) => {
  await features.refresh(); // the SDK does not wait, so wait here if a check is due
  const context = {
    appName: 'shop',
    environment: 'production',
    userId: event.user,
    properties: { plan: event.plan },
  };
  return { newCheckout: unleash.isEnabled('new-checkout', context, () => false) };
};
