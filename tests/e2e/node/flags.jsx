// A page with OpenFeature's OFREP provider for browsers, or LaunchDarkly's SDKs, unchanged. For each
// context of /task it notes what an SDK has, and in the end gives all that to /done.
import { createClient } from '@launchdarkly/js-client-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature } from '@openfeature/web-sdk';
import * as LaunchDarkly from 'launchdarkly-js-client-sdk';
import { detailsOf } from './details.mjs';

const task = await (await fetch('/task')).json();
const { url, clientKey, asked, contexts, flags } = task;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function ofrep() {
  const headers = [['Authorization', `Bearer ${clientKey}`]];
  // Its cache is by targeting key alone, and contexts with the same one follow each other here.
  const options = { baseUrl: url, headers, pollInterval: task.pollMs, cacheMode: 'disabled' };
  const provider = new OFREPWebProvider(options);
  await OpenFeature.setContext(asked[0].context);
  await OpenFeature.setProviderAndWait(provider);
  const client = OpenFeature.getClient();
  const changed = [];
  client.addHandler('PROVIDER_CONFIGURATION_CHANGED', (event) => changed.push(event.flagsChanged));
  const seen = [];
  for (const { context, flags: types } of asked) {
    await OpenFeature.setContext(context);
    const found = {};
    for (const name of Object.keys(types)) found[name] = await detailsOf(client, name, types[name]);
    seen.push(found);
  }
  changed.length = 0;
  await pause(5 * task.pollMs);
  return { seen, changed };
}

function logging() {
  const lines = { error: [], warn: [] };
  const log = (level) => (text) => lines[level]?.push(String(text));
  return { lines, logger: { debug() {}, info() {}, warn: log('warn'), error: log('error') } };
}

// The options for addresses have other names in version 4.
const OPTIONS = {
  3: { baseUrl: url, eventsUrl: url, streamUrl: url, evaluationReasons: true },
  4: { baseUri: url, eventsUri: url, streamUri: url, withReasons: true },
};

async function started(version, logger, more) {
  const options = { ...OPTIONS[version], logger, ...more };
  if (version === 3) {
    const client = LaunchDarkly.initialize(clientKey, contexts[0], options);
    await client.waitForInitialization(5);
    return client;
  }
  const client = createClient(clientKey, contexts[0], options);
  await client.start();
  return client;
}

async function launchdarkly(version, more = {}) {
  const { lines, logger } = logging();
  const client = await started(version, logger, more);
  const errors = [];
  client.on('error', (error) => errors.push(String(error)));
  const seen = [];
  for (const context of contexts) {
    await client.identify(context);
    const found = {};
    for (const name of Object.keys(flags)) {
      const { value, variationIndex, reason } = client.variationDetail(name, 'default');
      found[name] = [value, variationIndex ?? null, reason ?? null];
    }
    seen.push({ flags: found, all: Object.keys(client.allFlags()).sort() });
    // Version 4 cannot post more than the 64 KB that browsers take with `keepalive`.
    if (seen.length % 5 === 0) await client.flush();
  }
  await client.identify(contexts.at(-1));
  await client.flush();
  await client.close();
  return { seen, errors, lines };
}

// With a listener for changes, an SDK wants to stream.
async function listening(version, more = {}) {
  const { lines, logger } = logging();
  const client = await started(version, logger, more);
  const errors = [];
  client.on('error', (error) => errors.push(String(error)));
  client.on('change', () => {});
  await pause(3000);
  const value = client.variation(Object.keys(flags)[0], 'default');
  await client.close();
  return { value, errors, lines };
}

let done = {};
try {
  if (task.sdk === 'ofrep') done = await ofrep();
  else
    for (const version of [3, 4]) {
      const get = await launchdarkly(version);
      const report = await launchdarkly(version, { useReport: true });
      await fetch(`/listening-${version}`, { method: 'POST' });
      const streaming = await listening(version);
      await fetch(`/polling-${version}`, { method: 'POST' });
      const polling = await listening(version, { streaming: false });
      done[version] = { get, report, streaming, polling };
    }
} catch (error) {
  done = { failed: String(error.stack) };
}
await fetch('/done', { method: 'POST', body: JSON.stringify(done) });
