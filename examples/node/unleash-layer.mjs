import { createRequire } from 'node:module';
import { startUnleash } from 'unleash-client';

const require = createRequire(import.meta.url); // `import` does not look into layers
const flagstore = require('flagstore');
const { repository } = require('flagstore/unleash');

const features = repository(flagstore.client('prod'));
const unleash = await startUnleash({
  url: 'http://unused', // required; with the next two lines, nothing is fetched or sent
  repository: features,
  disableMetrics: true,
  appName: 'shop',
  environment: 'production',
});

export const handler = async (event) => {
  await features.refresh(); // the SDK does not wait, so wait here if a check is due
  const context = { userId: event.user, properties: { plan: event.plan } };
  return { newCheckout: unleash.isEnabled('new-checkout', context) };
};
