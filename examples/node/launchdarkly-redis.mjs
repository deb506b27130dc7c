import LaunchDarkly from '@launchdarkly/node-server-sdk';
import { RedisFeatureStore } from '@launchdarkly/node-server-sdk-redis';
import Redis from 'ioredis';

const redis = new Redis(process.env.FLAGSTORE_REDIS_URL);
const client = LaunchDarkly.init('no-key', {
  featureStore: RedisFeatureStore({ client: redis, prefix: '{prod}' }),
  useLdd: true, // daemon mode: reads the store and opens no connection to LaunchDarkly
  sendEvents: false,
});

export const handler = async (event) => {
  await client.waitForInitialization({ timeout: 5 });
  const context = { kind: 'user', key: event.user, plan: event.plan };
  return { newCheckout: await client.variation('new-checkout', context, false) };
};
