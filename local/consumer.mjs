// Calls a handler of examples/node again and again, as requests would, and prints its flag when it changes:
// node consumer.mjs HANDLER
import { basename } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const [file] = process.argv.slice(2);
const print = (line) => process.stdout.write(`${line}\n`);

for (const name of ['log', 'info', 'warn', 'error']) console[name] = () => {}; // SDKs log there
process.on('uncaughtException', ({ stack, message }) => {
  print(`Traceback:\n${stack}\n${message}`);
  process.exit(1);
});
const { handler } = await import(pathToFileURL(file));
let known;
for (;;) {
  const { newCheckout } = await handler({ user: 'ada', plan: 'team' });
  if (known === undefined) {
    print(`${basename(file)} in Node.js ${process.version}`);
    print(`start, import, connect and evaluate: ${performance.now().toFixed()} ms`);
  }
  if (newCheckout !== known) print(`new-checkout: ${newCheckout ? 'on' : 'off'}`);
  known = newCheckout;
  await setTimeout(50);
}
