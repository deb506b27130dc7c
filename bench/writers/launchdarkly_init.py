"""Writes a flag set with LaunchDarkly's SDK, as its relay does at each start: ``init``, twice.

Told on the command line: the table, and a file with the flag set. Prints JSON.
"""

import json
import sys
import time
from pathlib import Path

from ldclient.impl.integrations.dynamodb.dynamodb_feature_store import _DynamoDBFeatureStoreCore
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from bench.units import CountingClient

table, file = sys.argv[1:]
document = json.loads(Path(file).read_text(encoding="utf-8"))
store = _DynamoDBFeatureStoreCore(table, "theirs", {})
inner = store._client  # noqa: SLF001 - to be counted
counted = []
for _ in range(2):
    store._client = counter = CountingClient(inner)  # noqa: SLF001 - to be counted
    begun = time.perf_counter()
    store.init_internal({FEATURES: document["flags"], SEGMENTS: document["segments"]})
    counted.append(
        {
            "requests": counter.requests(),
            "write_units": counter.write_units,
            "bytes": counter.bytes_written,
            "ms": (time.perf_counter() - begun) * 1000,
        }
    )
print(json.dumps(counted))
