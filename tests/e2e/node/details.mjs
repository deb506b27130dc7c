// Evaluates a flag of a known type with an SDK of OpenFeature's: value, reason, variant, error code.
const METHODS = {
  boolean: ['getBooleanDetails', false],
  string: ['getStringDetails', 'default'],
  integer: ['getNumberDetails', -1],
  float: ['getNumberDetails', -1],
  object: ['getObjectDetails', { default: true }],
};

export async function detailsOf(client, name, type, ...context) {
  const [method, otherwise] = METHODS[type];
  const found = await client[method](name, otherwise, ...context);
  return [found.value, found.reason ?? null, found.variant ?? null, found.errorCode ?? null];
}
