import { createRequire } from 'node:module';
import { PluggableStorage, SplitFactory } from '@splitsoftware/splitio-browserjs';
import { sdkClientMethodFactory } from '@splitsoftware/splitio-commons/cjs/sdkClient/sdkClientMethod.js';

const require = createRequire(import.meta.url); // `import` does not look into layers
const flagstore = require('flagstore');
const { storageWrapper } = require('flagstore/split');

const settings = {
  core: { authorizationKey: 'none', key: 'none' }, // any strings: they are sent nowhere
  mode: 'consumer',
  storage: PluggableStorage({ wrapper: storageWrapper(flagstore.client('prod')) }),
  sync: { impressionsMode: 'NONE' },
};
// The client of Split's SDKs for servers: one for all users.
const client = SplitFactory(settings, (modules) => Object.assign(modules, { sdkClientMethodFactory })).client();
await client.whenReady();

export const handler = async (event) => {
  const treatment = await client.getTreatment(event.user, 'new-checkout', { plan: event.plan });
  return { newCheckout: treatment === 'on' };
};
