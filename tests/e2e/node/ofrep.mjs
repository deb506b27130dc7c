// OpenFeature's OFREP provider for Node.js, unchanged: `node ofrep.mjs URL TOKEN`. For each line on
// standard input, with contexts and the types of flags as JSON, it prints what they evaluate to.
import { createInterface } from 'node:readline';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature } from '@openfeature/server-sdk';
import { detailsOf } from './details.mjs';

const [baseUrl, token] = process.argv.slice(2);
const headers = [['Authorization', `Bearer ${token}`]];
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl, headers }));
const client = OpenFeature.getClient();
for await (const line of createInterface({ input: process.stdin })) {
  const results = [];
  for (const { context, flags } of JSON.parse(line).asked) {
    const names = Object.keys(flags);
    const found = await Promise.all(names.map((name) => detailsOf(client, name, flags[name], context)));
    results.push(Object.fromEntries(names.map((name, at) => [name, found[at]])));
  }
  console.log(JSON.stringify(results));
}
process.exit(0);
