import { createRequire } from 'node:module';
import { initialize } from 'unleash-client';

const require = createRequire(import.meta.url); // `import` does not look into layers
const flagstore = require('flagstore');
const { repository } = require('flagstore/unleash');

const flags = flagstore.client('prod');
const features = repository(flags);
const unleash = initialize({
  url: 'http://unused', // required; with the next two lines, nothing is fetched or sent
  repository: features,
  disableMetrics: true,
  appName: 'shop',
  environment: 'production',
});
unleash.on('error', console.error);
await flags.loaded(); // while the function starts, with a whole core

export const handler = async (event) => {
  await features.refresh().catch(console.error); // the SDK does not wait, so wait here if a check is due
  const context = { userId: event.user, properties: { plan: event.plan } };
  return { newCheckout: unleash.isEnabled('new-checkout', context) };
};
