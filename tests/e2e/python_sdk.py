"""Unleash's SDK for Python, with no more changed than its URL: see node/sdk.mjs."""

from __future__ import annotations

import json
import logging
import os
import sys
from tempfile import TemporaryDirectory

from UnleashClient import UnleashClient

logging.disable(logging.CRITICAL)
url, token = sys.argv[1:]
with TemporaryDirectory() as folder:
    client = UnleashClient(
        url,
        "shop",
        custom_headers={"Authorization": token},
        refresh_interval=1,
        metrics_interval=1,
        cache_directory=folder,
    )
    client.initialize_client()
    for line in sys.stdin:
        task = json.loads(line)
        results = [
            {
                flag: [client.is_enabled(flag, context), client.get_variant(flag, context)]
                for flag in task["flags"]
            }
            for context in task["contexts"]
        ]
        print(json.dumps(results), flush=True)
os._exit(0)
