// One of the providers' SDKs for Node.js on flagstore's adapter: `node adapters.cjs SDK [SOURCE]`. Each line of
// standard input is a task as JSON, which takes some of these steps, in this order:
// - `cut`: how connections to the store fail from now on (see connections.cjs)
// - `stored`: without a SOURCE, the flag sets that the reader has, one after the other; null fails
// - `advance`: let so many seconds pass for the reader
// - `fresh`: wait for the check that is due, as handlers do whose SDK evaluates without waiting
// - `flags`, `contexts`, `sets`: evaluate (see evaluations.cjs), each context in a turn of its own if they are `apart`
// - `spoil`: a flag; change its value after reading it, and read it again
// Each is answered by one line: `results`, one for each context; `connections`, the addresses connected to;
// `logged`, what the adapter has reported; `info`, the reader's; `seconds`. At the end the process ends by itself.
// With FLAGSTORE_USAGE=counts, lines with counts of evaluations are among them.
'use strict';

const readline = require('node:readline');
const { setImmediate: turn } = require('node:timers/promises');
const connections = require('./connections.cjs');
const evaluations = require('./evaluations.cjs');

const FLAGSTORE = '../../../src/node';
const splitAdapter = require(`${FLAGSTORE}/adapters/split.js`);
const NOWHERE = 'http://127.0.0.1:9';
const logged = [];

// -- SDKs: each opens one on a client, and returns how to evaluate and to close --------------------------

const sdks = {
  'launchdarkly-6': (flags) => launchDarkly(flags, require('launchdarkly-node-server-sdk'), { users: true }),
  'launchdarkly-7': (flags) => launchDarkly(flags, require('launchdarkly-7')),
  'launchdarkly-8': (flags) => launchDarkly(flags, require('launchdarkly-8')),
  'launchdarkly-9': (flags) => launchDarkly(flags, require('@launchdarkly/node-server-sdk')),

  async 'split-browser'(flags) {
    const { SplitFactory, PluggableStorage } = require('@splitsoftware/splitio-browserjs');
    const factory = SplitFactory({
      core: { authorizationKey: 'no-key', key: 'nobody' },
      mode: 'consumer',
      storage: splitStorage(flags, PluggableStorage),
      sync: { impressionsMode: 'NONE' },
      impressionListener: splitAdapter.usageListener(flags),
    });
    await factory.client().whenReady();
    const ask = (method) => async (key, ...more) => {
      const client = factory.client(key);
      await client.whenReady();
      return client[method](...more);
    };
    const methods = ['getTreatmentsWithConfig', 'getTreatmentsWithConfigByFlagSet'];
    const client = Object.fromEntries(methods.map((method) => [method, ask(method)]));
    return {
      evaluate: (task) => evaluations.split(client, factory.manager(), task),
      close: () => factory.destroy(),
    };
  },
  async 'split-server'(flags) {
    const { SplitFactory, PluggableStorage } = require('@splitsoftware/splitio-browserjs');
    const { sdkClientMethodFactory } = require('@splitsoftware/splitio-commons/cjs/sdkClient/sdkClientMethod');
    const settings = {
      core: { authorizationKey: 'no-key', key: 'nobody' },
      mode: 'consumer',
      storage: splitStorage(flags, PluggableStorage),
      sync: { impressionsMode: 'DEBUG' },
      impressionListener: splitAdapter.usageListener(flags),
    };
    const factory = SplitFactory(settings, (modules) => Object.assign(modules, { sdkClientMethodFactory }));
    const client = factory.client();
    await client.whenReady();
    return {
      evaluate: (task) => evaluations.split(client, factory.manager(), task),
      close: () => client.destroy(),
    };
  },

  async unleash(flags) {
    const { Unleash } = require('unleash-client');
    const { repository, withUsage } = require(`${FLAGSTORE}/adapters/unleash.js`);
    const features = repository(flags);
    const options = { url: NOWHERE, appName: 'shop', environment: 'production', disableMetrics: true };
    const unleash = withUsage(new Unleash({ ...options, repository: features }), flags);
    unleash.on('error', (error) => logged.push(error.message));
    const alive = setInterval(() => {}, 1_000); // as a server would be that waits for its features
    await new Promise((resolve) => unleash.once('synchronized', resolve));
    clearInterval(alive);
    return {
      fresh: () => features.refresh(),
      evaluate: (task) => evaluations.unleash(unleash, task),
      close: () => unleash.destroy(),
    };
  },
  async 'unleash-evaluator'(flags) {
    const { default: UnleashClient } = require('unleash-client/lib/client');
    const { defaultStrategies } = require('unleash-client/lib/strategy');
    const { repository, withUsage } = require(`${FLAGSTORE}/adapters/unleash.js`);
    console.warn = (message) => logged.push(message) && console.error(message);
    const features = repository(flags);
    const evaluator = withUsage(new UnleashClient(features, defaultStrategies), flags);
    const ready = new Promise((resolve) => features.once('ready', resolve));
    const alive = setInterval(() => {}, 1_000); // as a server would be that waits for its features
    await features.start();
    await ready;
    clearInterval(alive);
    const more = { appName: 'shop', environment: 'production' };
    const unleash = {
      getFeatureToggleDefinitions: () => features.getToggles(),
      isEnabled: (name, context) => evaluator.isEnabled(name, { ...more, ...context }, () => false),
      getVariant: (name, context) => evaluator.getVariant(name, { ...more, ...context }),
    };
    return {
      fresh: () => features.refresh(),
      evaluate: (task) => evaluations.unleash(unleash, task),
      close: () => features.stop(),
    };
  },
};

async function launchDarkly(flags, sdk, options) {
  const { featureStore, usageEvents, usageHook } = require(`${FLAGSTORE}/adapters/launchdarkly.js`);
  const counted = sdk.PersistentDataStoreWrapper
    ? { hooks: [usageHook(flags)] }
    : { eventProcessor: usageEvents(flags) };
  const error = (message) => message.startsWith('flagstore') && logged.push(message);
  const client = sdk.init('no-key', {
    featureStore: featureStore(flags, sdk),
    useLdd: true,
    sendEvents: false,
    ...counted,
    logger: { ...evaluations.SILENT, error },
  });
  await client.waitForInitialization({ timeout: 10 });
  return {
    evaluate: (task) => evaluations.launchDarkly(client, task, options),
    close: () => client.close(),
    read: (flag) => client.variation(flag, { kind: 'user', key: 'ada' }, null),
  };
}

function splitStorage(flags, PluggableStorage) {
  console.warn = (message) => logged.push(message) && console.error(message);
  return PluggableStorage({ wrapper: splitAdapter.storageWrapper(flags), prefix: 'any.prefix' });
}

// -- Clients ------------------------------------------------------------------------------------------

function realClient(source) {
  let passed = 0;
  const client = require(FLAGSTORE).client(source, { clock: () => Date.now() / 1000 + passed });
  return { client, advance: (seconds) => (passed += seconds) };
}

// A reader that has a new flag set each time, after a turn of the event loop as if it had read a store.
function otherClient() {
  const { NotLoadedError } = require(FLAGSTORE);
  let [snapshots, last] = [[null], null];
  const client = {
    async snapshot() {
      await turn();
      const next = snapshots.shift();
      snapshots.push(next);
      last = next ?? last;
      if (last === null) throw new NotLoadedError('the store is down');
      return last;
    },
    info: () => ({}),
    close() {},
  };
  return { client, put: (stored) => (snapshots = stored.map((set) => set && snapshotOf(set))) };
}

function snapshotOf({ provider, meta = {}, missing = [], ...sections }) {
  const { NotLoadedError } = require(FLAGSTORE);
  const texts = Object.entries(sections).map(([section, items]) => [
    section,
    new Map(Object.entries(items).map(([key, item]) => [key, JSON.stringify(item)])),
  ]);
  const found = new Map(texts);
  const text = (section, key) => {
    if (section === 'segments' && missing.includes(key)) throw new NotLoadedError(`no segment ${key}`);
    return found.get(section)?.get(key);
  };
  const items = new Map();
  const item = (section, key) => {
    const [label, json] = [`${section}/${key}`, text(section, key)];
    if (json !== undefined && !items.has(label)) items.set(label, JSON.parse(json));
    return items.get(label);
  };
  const keys = (section = 'flags') => [...(found.get(section)?.keys() ?? [])].sort();
  const all = (section) => keys(section).map((key) => item(section, key));
  const hasSegment = (key) => !missing.includes(key);
  const large = new Map(missing.map((key) => [key, {}]));
  return { source: 'prod', provider, revision: 1, meta, keys, text, item, items: all, hasSegment, large };
}

// -- Tasks --------------------------------------------------------------------------------------------

async function evaluated(sdk, { contexts, apart, sets = [], ...flags }) {
  const task = { ...flags, sets };
  if (!apart) return sdk.evaluate({ ...task, contexts });
  const all = contexts.map(async (context, index) => {
    for (let turns = index % 7; turns > 0; turns -= 1) await turn();
    return (await sdk.evaluate({ ...task, contexts: [context] }))[0];
  });
  return Promise.all(all);
}

async function spoiled(sdk, flag) {
  const value = await sdk.read(flag);
  value.spoiled = true;
  return sdk.read(flag);
}

async function main() {
  console.log = console.error; // where SDKs log
  const [name, source] = process.argv.slice(2);
  const { client, advance, put } = source ? realClient(source) : otherClient();
  let sdk;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await turn(); // lines that came together are read in one
    const task = JSON.parse(line);
    if (task.cut !== undefined) connections.cut(task.cut);
    if (task.stored) put(task.stored);
    advance?.(task.advance ?? 0);
    sdk ??= await sdks[name](client);
    const start = performance.now();
    if (task.fresh) await sdk.fresh?.();
    const results = task.contexts ? await evaluated(sdk, task) : [];
    if (task.spoil) results.push(await spoiled(sdk, task.spoil));
    const seconds = (performance.now() - start) / 1000;
    const noted = { connections: connections.taken(), logged: logged.splice(0), info: client.info() };
    process.stdout.write(`${JSON.stringify({ results, ...noted, seconds })}\n`);
  }
  await sdk?.close();
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
