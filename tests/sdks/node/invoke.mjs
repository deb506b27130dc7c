// Calls a handler once, as AWS Lambda does: `node invoke.mjs FILE EVENT`. Prints its `result`, by a promise or by
// the callback, whichever is first, and the `connections` of the process.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(import.meta.url);
const connections = require('./connections.cjs');
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

console.log = console.error; // where SDKs log
const [file, event] = process.argv.slice(2);
if (readFileSync(file, 'utf8').includes('server-sdk-dynamodb')) {
  // It uses the AWS SDK v2, which does not know this variable.
  require('aws-sdk').config.update({ dynamodb: { endpoint: process.env.AWS_ENDPOINT_URL } });
}
const { handler, default: exported } = await import(pathToFileURL(file));
const result = await new Promise((resolve, reject) => {
  const callback = (error, value) => (error ? reject(error) : resolve(value));
  const returned = (handler ?? exported.handler ?? exported)(JSON.parse(event), {}, callback);
  returned?.then(resolve, reject);
});
print({ result: result ?? null, connections: connections.taken() });
process.exit(0); // a runtime goes on with the next event
