"""One sync with everything that SyncFunction imports; tells its peak of resident memory in MB.

Told on the command line: provider, its URL and key, the table. The runtime's own modules count too.
"""

import json
import random
import re
import sys
from pathlib import Path

import awslambdaric.bootstrap  # noqa: F401 - what AWS' runtime has imported already
import boto3

from storesync import sync as function
from storesync.http import HttpClient
from storesync.model import Secret, Source, SyncRequest
from storesync.providers import get
from storesync.retry import Deadline, SystemClock
from storesync.stores.dynamodb import DynamoDBStore

provider, url, key, table = sys.argv[1:]
deadline = Deadline(SystemClock(), random.Random(1), 100)  # noqa: S311 - of pauses
source = Source("prod", provider, url, Secret(key), allow_http=True)
store = DynamoDBStore(boto3.client("dynamodb"), table, deadline)
sync = function.Sync(source, get(provider), store, http=HttpClient(), deadline=deadline)
report = sync.run([SyncRequest("prod", trigger="schedule")])
# Not getrusage: its peak counts the process that this one was forked from as well.
status = Path("/proc/self/status").read_text(encoding="ascii")
peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
print(json.dumps({"outcome": report.outcome, "counts": report.counts, "peak": peak}))
