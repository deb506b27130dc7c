import { SplitFactory } from '@splitsoftware/splitio';

const client = SplitFactory({
  core: { authorizationKey: 'redis' }, // any string: it is sent nowhere
  mode: 'consumer',
  storage: { type: 'REDIS', prefix: '{prod}', options: { url: process.env.FLAGSTORE_REDIS_URL } },
  sync: { impressionsMode: 'NONE' }, // otherwise each evaluation writes to Redis, for a Synchronizer
}).client();

export const handler = async (event) => {
  await client.ready();
  const treatment = await client.getTreatment(event.user, 'new-checkout', { plan: event.plan });
  return { newCheckout: treatment === 'on' };
};
