// AppConfig's engine for Node.js: each line of standard input is a flag set with contexts as JSON, and is
// answered by one line, the evaluations of each flag for each context.
'use strict';

const readline = require('node:readline');
const { AppConfigEngine } = require('../../src/node/appconfig/engine.js');
const { Rollout } = require('../../src/node/appconfig/rollout.js');
const { snapshotOf } = require('../node/support/appconfig.js');

const warnings = [];

function setOf({ meta, sections }) {
  const entries = Object.entries(sections).map(([name, items]) => [name, new Map(items)]);
  return snapshotOf(meta, Object.fromEntries(entries));
}

// JSON has one kind of number; Python has two.
const TYPES = {
  int: (text) => (Math.abs(Number(text)) < 2 ** 53 ? Number(text) : BigInt(text)),
  float: Number,
  other: (text) => JSON.parse(text),
};

function contextOf(fields) {
  return new Map(fields.map(([name, type, text]) => [name, TYPES[type](text)]));
}

function evaluated({ contexts, keys, ...set }) {
  const engine = new AppConfigEngine(setOf(set), (message) => warnings.push(message));
  return contexts.map((fields) => {
    const context = engine.context(contextOf(fields));
    return keys.map((key) => {
      const { json, variant, reason, error, rule, ruleIndex, config } = engine.evaluate(key, context);
      return [json ?? null, variant, reason, error, rule, ruleIndex, config];
    });
  });
}

// Which entities (UTF-8 in hex) have the new version at a percentage.
function chosen({ entities, percentage, ...set }) {
  const rollout = new Rollout(setOf(set));
  return entities.map((entity) => rollout.hasNew(Buffer.from(entity, 'hex'), percentage));
}

// The percentage after each of some moments.
function percentages({ moments, ...set }) {
  let rollout = new Rollout(setOf(set));
  return moments.map(({ text, now, stale, again }) => {
    if (again) rollout = new Rollout(setOf(set), rollout);
    return rollout.percentage(text, now, stale);
  });
}

const TASKS = { evaluated, chosen, percentages };

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { task, ...given } = JSON.parse(line);
  const result = TASKS[task](given);
  process.stdout.write(`${JSON.stringify({ result, warnings: warnings.splice(0) })}\n`);
});
