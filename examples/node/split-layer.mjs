import { createRequire } from 'node:module';
import { PluggableStorage, SplitFactory } from '@splitsoftware/splitio-browserjs';

const require = createRequire(import.meta.url); // `import` does not look into layers
const flagstore = require('flagstore');
const { storageWrapper } = require('flagstore/split');
// The client of Split's SDKs for servers, one for all users; of the version that this SDK has beside it.
const besideSdk = createRequire(require.resolve('@splitsoftware/splitio-browserjs'));
const { sdkClientMethodFactory } = besideSdk('@splitsoftware/splitio-commons/cjs/sdkClient/sdkClientMethod');

const settings = {
  core: { authorizationKey: 'none', key: 'none' }, // any strings: they are sent nowhere
  mode: 'consumer',
  storage: PluggableStorage({ wrapper: storageWrapper(flagstore.client('prod')) }),
  startup: { readyTimeout: 2 }, // seconds; if there are no flags by then, treatments are control
  sync: { impressionsMode: 'NONE' },
};
const client = SplitFactory(settings, (modules) => Object.assign(modules, { sdkClientMethodFactory })).client();
await client.whenReady().catch(console.error);

export const handler = async (event) => {
  const treatment = await client.getTreatment(event.user, 'new-checkout', { plan: event.plan });
  return { newCheckout: treatment === 'on' };
};
