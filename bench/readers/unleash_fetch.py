"""Evaluates one flag with Unleash's SDK, which fetches from the server as it does by default."""

import os
import sys
import tempfile

from UnleashClient import UnleashClient

url, token, flag = sys.argv[1:]
client = UnleashClient(
    url,
    "shop",
    custom_headers={"Authorization": token},
    disable_metrics=True,
    disable_registration=True,
    cache_directory=tempfile.mkdtemp(),
)
client.initialize_client()
print(client.is_enabled(flag, {"userId": "ada", "properties": {"plan": "team", "country": "DE"}}))
sys.stdout.flush()
os._exit(0)  # its threads' end is not what is measured
