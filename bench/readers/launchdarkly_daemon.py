"""Evaluates one flag with LaunchDarkly's SDK in daemon mode, from the rows in DynamoDB."""

import os
import sys

from ldclient import Config, Context, LDClient
from ldclient.integrations import DynamoDB

store = DynamoDB.new_feature_store(os.environ["FLAGSTORE_TABLE"], prefix="prod")
client = LDClient(Config("k", feature_store=store, use_ldd=True, send_events=False), start_wait=0)
context = Context.builder("ada").set("plan", "team").set("country", "DE").build()
print(client.variation(sys.argv[1], context, None))
sys.stdout.flush()
os._exit(0)  # its threads' end is not what is measured
