import LaunchDarkly from 'launchdarkly-node-server-sdk';
import { DynamoDBFeatureStore } from 'launchdarkly-node-server-sdk-dynamodb';

const client = LaunchDarkly.init('no-key', {
  featureStore: DynamoDBFeatureStore(process.env.FLAGSTORE_TABLE, { prefix: 'prod' }),
  useLdd: true, // daemon mode: reads the store and opens no connection to LaunchDarkly
  sendEvents: false,
});

export const handler = async (event) => {
  await client.waitForInitialization();
  const user = { key: event.user, custom: { plan: event.plan } };
  return { newCheckout: await client.variation('new-checkout', user, false) };
};
