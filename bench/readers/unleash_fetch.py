"""Evaluates one flag with Unleash's SDK, which fetches from the server as it does by default."""

import phases  # isort: skip - begins to count

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
context = {"userId": "ada", "properties": {"plan": "team", "country": "DE"}}

phases.serve(lambda: client.is_enabled(flag, context))
