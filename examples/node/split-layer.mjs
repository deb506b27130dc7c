import { createRequire } from 'node:module';
import { SplitFactory } from '@splitsoftware/splitio';
import { PluggableStorage } from '@splitsoftware/splitio-commons/cjs/storages/pluggable/index.js';

const require = createRequire(import.meta.url); // `import` does not look into layers
const flagstore = require('flagstore');
const { storageWrapper } = require('flagstore/split');

const storageFactory = PluggableStorage({ wrapper: storageWrapper(flagstore.client('prod')) });
const settings = {
  core: { authorizationKey: 'none' }, // any string: it is sent nowhere
  mode: 'consumer',
  storage: { type: 'REDIS' }, // required; replaced by the next line, and never connected to
  sync: { impressionsMode: 'NONE' },
};
const client = SplitFactory(settings, (modules) => Object.assign(modules, { storageFactory })).client();
await client.whenReady();

export const handler = async (event) => {
  const treatment = await client.getTreatment(event.user, 'new-checkout', { plan: event.plan });
  return { newCheckout: treatment === 'on' };
};
