// Calls a handler as AWS Lambda does, warm after the first time: `node invoke.mjs FILE`. Each line of standard
// input is an `event` as JSON, and by how many seconds the clock is `ahead`. It is answered by one line: the `result`, by a
// promise or by the callback, whichever is first, and the `connections` since the last line.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const require = createRequire(import.meta.url);
const connections = require('./connections.cjs');

const print = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr); // some SDKs log there
const [file] = process.argv.slice(2);
if (readFileSync(file, 'utf8').includes('server-sdk-dynamodb')) {
  // It uses the AWS SDK v2, which does not know this variable.
  require('aws-sdk').config.update({ dynamodb: { endpoint: process.env.AWS_ENDPOINT_URL } });
}
const { handler, default: exported } = await import(pathToFileURL(file));
const invoked = handler ?? exported.handler ?? exported;
const now = Date.now;
for await (const line of createInterface({ input: process.stdin })) {
  const { event, ahead } = JSON.parse(line);
  Date.now = () => now() + 1000 * ahead;
  const result = await new Promise((resolve, reject) => {
    const callback = (error, value) => (error ? reject(error) : resolve(value));
    invoked(event, {}, callback)?.then(resolve, reject);
  });
  print(`${JSON.stringify({ result: result ?? null, connections: connections.taken() })}\n`);
}
process.exit(0); // some SDKs keep timers
