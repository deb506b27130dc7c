// Reads LaunchDarkly's rows from DynamoDB, through the SDK's own wrapper for persistent stores.
// LaunchDarkly's package does the same; this one is for where that cannot be installed. It never
// writes.
'use strict';

const { DynamoDBClient, GetItemCommand, paginateQuery } = require('@aws-sdk/client-dynamodb');
const { PersistentDataStoreWrapper } = require('@launchdarkly/node-server-sdk');

const CACHE_S = 15;

function described(row) {
  return { version: Number(row.version.N), serializedItem: row.item.S };
}

function refuse() {
  throw new Error('this store only reads');
}

function rowsStore(table, prefix) {
  const client = new DynamoDBClient({});
  const read = async (namespace, key) => {
    const Key = { namespace: { S: `${prefix}:${namespace}` }, key: { S: key } };
    return (await client.send(new GetItemCommand({ TableName: table, Key }))).Item;
  };
  const query = async (namespace) => {
    const rows = [];
    const input = {
      TableName: table,
      KeyConditionExpression: '#n = :n',
      ExpressionAttributeNames: { '#n': 'namespace' },
      ExpressionAttributeValues: { ':n': { S: `${prefix}:${namespace}` } },
    };
    for await (const page of paginateQuery({ client }, input)) {
      rows.push(...page.Items);
    }
    return rows;
  };
  const core = {
    get: (kind, key, done) =>
      read(kind.namespace, key).then((row) => done(row && described(row)), () => done(undefined)),
    getAll: (kind, done) =>
      query(kind.namespace).then(
        (rows) => done(rows.map((row) => ({ key: row.key.S, item: described(row) }))),
        () => done(undefined),
      ),
    initialized: (done) =>
      read('$inited', `${prefix}:$inited`).then((row) => done(row !== undefined), () => done(false)),
    init: refuse,
    upsert: refuse,
    close: () => client.destroy(),
    getDescription: () => 'rows',
  };
  return () => new PersistentDataStoreWrapper(core, CACHE_S);
}

module.exports = { rowsStore };
