// A page with Unleash's SDKs for browsers, with no more changed than their URL. For each context of
// /task it notes which flags an SDK has, and in the end gives all that to /done.
import { FlagProvider, useFlags, useFlagsStatus, useUnleashContext } from '@unleash/proxy-client-react';
import { useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { InMemoryStorageProvider, UnleashClient } from 'unleash-proxy-client';

const { url, clientKey, contexts } = await (await fetch('/task')).json();
const config = { url, clientKey, appName: 'shop', refreshInterval: 0, metricsInterval: 3600 };

async function plain(more) {
  const storageProvider = new InMemoryStorageProvider();
  const client = new UnleashClient({ ...config, storageProvider, ...more });
  const errors = [];
  client.on('error', (error) => errors.push(error.code ?? error.type));
  await client.start();
  if (errors.length) return { errors, toggles: client.getAllToggles() };
  const toggles = [];
  for (const context of contexts) {
    await client.updateContext(context);
    toggles.push(client.getAllToggles());
  }
  client.isEnabled('never-there');
  await client.sendMetrics();
  await client.updateToggles();
  await fetch('/down', { method: 'POST' });
  await client.updateToggles();
  await fetch('/up', { method: 'POST' });
  return { toggles, errors, after: client.getAllToggles() };
}

function Flags({ onReady }) {
  const flags = useFlags();
  const { flagsReady } = useFlagsStatus();
  const update = useUnleashContext();
  useEffect(() => void (flagsReady && onReady(update)), [flagsReady]);
  return <pre>{JSON.stringify(flags)}</pre>;
}

async function react() {
  const root = createRoot(document.body.appendChild(document.createElement('div')));
  const storageProvider = new InMemoryStorageProvider();
  const update = await new Promise((resolve) => {
    root.render(
      <FlagProvider config={{ ...config, storageProvider }}>
        <Flags onReady={resolve} />
      </FlagProvider>,
    );
  });
  const shown = [];
  for (const context of contexts) {
    await update(context);
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setTimeout(resolve));
    shown.push(JSON.parse(document.querySelector('pre').textContent));
  }
  return { toggles: shown };
}

let done;
try {
  done = { get: await plain({}), post: await plain({ usePOSTrequests: true }) };
  if (done.get.after) done.react = await react();
} catch (error) {
  done = { failed: String(error.stack) };
}
await fetch('/done', { method: 'POST', body: JSON.stringify(done) });
