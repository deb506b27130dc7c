"""Tells its resident memory in MB, as memory_ours.py does, of LaunchDarkly's SDK."""

import json
import os
import re
import sys
from pathlib import Path


def megabytes() -> float:
    """Return the resident memory now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


bare = megabytes()

from ldclient import Config, Context, LDClient  # noqa: E402 - measured
from ldclient.integrations import DynamoDB  # noqa: E402 - measured

store = DynamoDB.new_feature_store(os.environ["FLAGSTORE_TABLE"], prefix="prod")
client = LDClient(Config("k", feature_store=store, use_ldd=True, send_events=False), start_wait=0)
person = Context.builder("ada").set("plan", "team").set("country", "DE").build()
client.variation(sys.argv[1], person, None)
first = megabytes()
count = len(client.all_flags_state(person).to_values_map())
print(json.dumps({"bare": bare, "first": first, "all": megabytes(), "count": count}))
sys.stdout.flush()
os._exit(0)
