// How each of the providers' SDKs for Node.js evaluates a task's `flags` (and Split's flag `sets`) for its
// `contexts`, wherever the SDK has its flags from. Each returns one result for each context.
'use strict';

const SOME = 20; // of so many contexts, one also evaluates all flags at once, or by flag set

exports.SILENT = Object.fromEntries(['debug', 'info', 'warn', 'error'].map((name) => [name, () => {}]));

exports.launchDarkly = async (client, { flags, contexts }, { users = false } = {}) => {
  const results = [];
  for (const [index, given] of contexts.entries()) {
    const context = users ? userOf(given) : given;
    const found = {};
    const evaluated = flags.map(async (flag) => {
      const detail = await client.variationDetail(flag, context, 'the default');
      found[flag] = [detail.value, detail.variationIndex, detail.reason];
    });
    await Promise.all(evaluated); // one by one, some SDKs take a millisecond each
    results.push({ flags: found });
    if (index % SOME === 0) {
      const state = await client.allFlagsState(context, { withReasons: true });
      Object.assign(results.at(-1), { valid: state.valid, all: state.toJSON() });
    }
  }
  return results;
};

// A context of the kind user, as SDKs before contexts take it.
function userOf({ kind, key, email, country, ...custom }) {
  return { key, email, country, custom };
}

// The client is one that is given a key in each call.
exports.split = async (client, manager, { flags, sets, contexts }) => {
  const evaluated = contexts.map(async ({ key: matchingKey, bucketing, attributes }, index) => {
    const key = { matchingKey, bucketingKey: bucketing || matchingKey };
    const found = { flags: pairs(await client.getTreatmentsWithConfig(key, flags, attributes)) };
    for (const name of index % SOME === 0 ? sets : []) {
      const listed = await client.getTreatmentsWithConfigByFlagSet(key, name, attributes);
      found[name] = pairs(listed);
    }
    return found;
  });
  const results = await Promise.all(evaluated);
  results[0].names = (await manager.names()).sort();
  return results;
};

// As Python's SDK has them: treatment and configuration.
function pairs(results) {
  return Object.fromEntries(
    Object.entries(results).map(([name, { treatment, config }]) => [name, [treatment, config]]),
  );
}

exports.unleash = (unleash, { flags, contexts }) =>
  contexts.map((context) => ({
    known: unleash.getFeatureToggleDefinitions().length,
    flags: Object.fromEntries(
      flags.map((name) => [name, [unleash.isEnabled(name, context), unleash.getVariant(name, context)]]),
    ),
  }));
