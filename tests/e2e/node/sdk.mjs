// Unleash's SDK for Node.js, with no more changed than its URL: `node sdk.mjs URL TOKEN`. For each
// line on standard input, with `flags` and `contexts` as JSON, it prints what they evaluate to.
import { createInterface } from 'node:readline';
import { InMemStorageProvider, startUnleash } from 'unleash-client';

const [url, token] = process.argv.slice(2);
const unleash = await startUnleash({
  url,
  appName: 'shop',
  customHeaders: { authorization: token },
  storageProvider: new InMemStorageProvider(),
  refreshInterval: 100,
  metricsInterval: 100,
});
unleash.on('error', () => {});
unleash.on('warn', () => {});
for await (const line of createInterface({ input: process.stdin })) {
  const { flags, contexts } = JSON.parse(line);
  const one = (flag, context) => [unleash.isEnabled(flag, context), unleash.getVariant(flag, context)];
  console.log(
    JSON.stringify(
      contexts.map((context) => Object.fromEntries(flags.map((flag) => [flag, one(flag, context)]))),
    ),
  );
}
process.exit(0);
