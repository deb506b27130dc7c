import { once } from 'node:events';
import { DynamoDBClient, GetItemCommand } from '@aws-sdk/client-dynamodb';
import { InMemStorageProvider, Unleash } from 'unleash-client';

const TTL_MS = 30_000;
const dynamodb = new DynamoDBClient();
const read = { // the document, which is there if the source has "document": true
  TableName: process.env.FLAGSTORE_TABLE,
  Key: { namespace: { S: 'prod:document' }, key: { S: 'features' } },
};
let unleash;
let loadedAt;

async function load() {
  loadedAt = Date.now(); // before it is read: after a failure, the next attempt waits too
  const { Item } = await dynamodb.send(new GetItemCommand(read));
  const { features, segments } = JSON.parse(Item.item.S);
  const next = new Unleash({
    url: 'http://unused', // required; with the next two lines, nothing is fetched or sent
    refreshInterval: 0,
    disableMetrics: true,
    appName: 'shop',
    environment: 'production',
    bootstrap: { data: features, segments },
    storageProvider: new InMemStorageProvider(),
  });
  await once(next, 'synchronized');
  unleash?.destroy();
  unleash = next;
}

export const handler = async (event) => {
  if (!unleash || Date.now() - loadedAt > TTL_MS) {
    await load().catch((error) => {
      if (!unleash) throw error;
      console.warn('the previous flags stay in use:', error.message);
    });
  }
  const context = { userId: event.user, properties: { plan: event.plan } };
  return { newCheckout: unleash.isEnabled('new-checkout', context) };
};
