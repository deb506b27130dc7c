"""Evaluates one flag with LaunchDarkly's SDK in daemon mode, from rows in DynamoDB or Redis."""

import phases  # isort: skip - begins to count

import os
import sys

from ldclient import Config, Context, LDClient
from ldclient.feature_store import CacheConfig
from ldclient.integrations import DynamoDB, Redis

flag, seconds = sys.argv[1:]
caching = CacheConfig(expiration=float(seconds))
url = os.environ.get("REDIS_URL")
if url:
    store = Redis.new_feature_store(url=url, prefix="{prod}", caching=caching)
else:
    table = os.environ["FLAGSTORE_TABLE"]
    store = DynamoDB.new_feature_store(table, prefix="prod", caching=caching)
client = LDClient(Config("k", feature_store=store, use_ldd=True, send_events=False), start_wait=0)
context = Context.builder("ada").set("plan", "team").set("country", "DE").build()

phases.serve(lambda: client.variation(flag, context, None))
