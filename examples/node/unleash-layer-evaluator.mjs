// As unleash-layer.mjs, but loads only the part of unleash-client that evaluates. Unlike the SDK, it needs
// a context with appName and environment, and as a fallback a function.
import { createRequire } from 'node:module';
import evaluator from 'unleash-client/lib/client.js';
import { defaultStrategies } from 'unleash-client/lib/strategy/index.js';

const require = createRequire(import.meta.url); // `import` does not look into layers
const flagstore = require('flagstore');
const { repository } = require('flagstore/unleash');

const features = repository(flagstore.client('prod'));
const unleash = new evaluator.default(features, defaultStrategies);
unleash.on('error', console.error); // without a listener, a malformed feature throws
await features.start();

export const handler = async (event) => {
  await features.refresh().catch(console.error); // if nothing has been loaded yet, the fallback applies
  const context = {
    appName: 'shop',
    environment: 'production',
    userId: event.user,
    properties: { plan: event.plan },
  };
  return { newCheckout: unleash.isEnabled('new-checkout', context, () => false) };
};
