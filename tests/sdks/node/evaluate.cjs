// One of the providers' SDKs for Node.js at work: `node evaluate.cjs SDK`. Each line of standard input is a
// task as JSON: which `flags` (and Split's flag `sets`) to evaluate for which `contexts`, and where they are:
// - `table`, or the URL `redis`, with the `prefix` of rows; `table` with the `document`'s namespace for Unleash
// - `url` and `key`: the provider's own API
// Each is answered by one line: `results`, one for each context, and `connections`, the addresses connected to.
'use strict';

const http = require('node:http');
const readline = require('node:readline');
const Module = require('node:module');
const connections = require('./connections.cjs');
const evaluations = require('./evaluations.cjs');

const NOWHERE = 'http://127.0.0.1:9';
const { SILENT } = evaluations;

// -- LaunchDarkly -----------------------------------------------------------------------------------

function launchDarkly(ld, newStore, options) {
  return async ({ url, key, flags, contexts, ...place }) => {
    const { release, connected, ...store } = place.prefix === undefined ? {} : newStore(place);
    const client = ld.init(key ?? 'no-key', {
      ...(store.featureStore && { ...store, useLdd: true }), // daemon mode
      ...(url && { stream: false, baseUri: url }),
      logger: SILENT,
      sendEvents: false,
      diagnosticOptOut: true,
    });
    await client.waitForInitialization({ timeout: 10 });
    await connected?.();
    const results = await evaluations.launchDarkly(client, { flags, contexts }, options);
    client.close();
    release?.();
    return results;
  };
}

const sdks = {
  'launchdarkly-8'() {
    return launchDarkly(require('launchdarkly-8'));
  },
  'launchdarkly-9'() {
    const { RedisFeatureStore } = require('@launchdarkly/node-server-sdk-redis');
    const Redis = require('ioredis');
    return launchDarkly(require('@launchdarkly/node-server-sdk'), ({ redis, prefix }) => {
      const client = new Redis(redis);
      return { featureStore: RedisFeatureStore({ client, prefix }), release: () => client.disconnect() };
    });
  },
  'launchdarkly-7'() {
    // Its package for Redis would find the SDK 6 beside it.
    const resolve = Module._resolveFilename;
    Module._resolveFilename = (name, ...more) =>
      resolve(name.replace(/^launchdarkly-node-server-sdk(?=\/|$)/, 'launchdarkly-7'), ...more);
    const { RedisFeatureStore } = require('launchdarkly-node-server-sdk-redis');
    return launchDarkly(require('launchdarkly-node-server-sdk'), ({ redis, prefix }) => ({
      featureStore: RedisFeatureStore({ redisOpts: { url: redis }, prefix }),
    }));
  },
  'launchdarkly-6'() {
    const { DynamoDBFeatureStore } = require('launchdarkly-node-server-sdk-dynamodb');
    const clientOptions = { endpoint: process.env.AWS_ENDPOINT_URL }; // this AWS SDK does not know it
    const newStore = ({ table, prefix }) => ({
      featureStore: DynamoDBFeatureStore(table, { prefix, clientOptions }),
    });
    return launchDarkly(require('launchdarkly-node-server-sdk'), newStore, { users: true });
  },
  'ldclient-5'() {
    const ld = require('ldclient-node');
    const newStore = ({ redis, prefix }) => {
      const featureStore = ld.RedisFeatureStore({ url: redis }, 15, prefix, SILENT);
      // Until it is connected, it knows no flag.
      const connected = () => new Promise((resolve) => featureStore.initialized(resolve));
      return { featureStore, connected };
    };
    return launchDarkly(ld, newStore, { users: true });
  },

  // -- Split and Unleash ----------------------------------------------------------------------------

  split() {
    const { SplitFactory } = require('@splitsoftware/splitio');
    return async ({ redis, prefix, url, key, ...task }) => {
      // The simulator ends each connection after its response.
      const requestOptions = { agent: new http.Agent({ keepAlive: false }) };
      const sync = { impressionsMode: 'NONE', requestOptions };
      const settings = redis
        ? {
            core: { authorizationKey: 'redis' },
            mode: 'consumer',
            storage: { type: 'REDIS', prefix, options: { url: redis } },
          }
        : {
            core: { authorizationKey: key },
            urls: { sdk: `${url}/api`, events: NOWHERE, auth: NOWHERE, telemetry: NOWHERE },
            streamingEnabled: false,
          };
      const factory = SplitFactory({ ...settings, sync });
      const client = factory.client();
      await client.ready();
      const results = await evaluations.split(client, factory.manager(), task);
      if (redis) await client.destroy(); // writes what it has counted
      return results;
    };
  },
  unleash() {
    const { DynamoDBClient, GetItemCommand } = require('@aws-sdk/client-dynamodb');
    const { Unleash, InMemStorageProvider } = require('unleash-client');
    return async ({ table, document, url, key, ...task }) => {
      const options = { url: `${url ?? NOWHERE}/api`, appName: 'shop', environment: 'production' };
      if (key) options.customHeaders = { authorization: key };
      if (table) {
        const Key = { namespace: { S: document }, key: { S: 'features' } };
        const dynamodb = new DynamoDBClient();
        const { Item } = await dynamodb.send(new GetItemCommand({ TableName: table, Key }));
        const { features, segments } = JSON.parse(Item.item.S);
        dynamodb.destroy();
        Object.assign(options, { refreshInterval: 0, bootstrap: { data: features, segments } });
      }
      const storageProvider = new InMemStorageProvider();
      const unleash = new Unleash({ ...options, disableMetrics: true, storageProvider });
      await new Promise((resolve) => unleash.once('synchronized', resolve));
      const results = evaluations.unleash(unleash, task);
      unleash.destroy();
      return results;
    };
  },
};

async function main() {
  console.log = console.error; // where SDKs log
  const evaluate = sdks[process.argv[2]]();
  for await (const task of readline.createInterface({ input: process.stdin })) {
    const results = await evaluate(JSON.parse(task));
    const line = JSON.stringify({ results, connections: connections.taken() });
    process.stdout.write(`${line}\n`);
  }
  process.exit(0); // some SDKs keep timers
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
