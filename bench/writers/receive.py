"""Webhooks through a handler in one process: the first one, then many warm ones; CPU and time.

Told on the command line: ``ours`` or ``naive``, a file with the events, the URL of the flags.
``naive`` is the handler that comes to mind first: check the signature, fetch all flags, put them.
"""

import hashlib
import hmac
import json
import os
import sys
import time
import zlib
from pathlib import Path

ACCEPTED = 202

kind, file, url = sys.argv[1:]
events = json.loads(Path(file).read_text(encoding="utf-8"))
begun, cpu = time.perf_counter(), time.process_time()


class Context:
    """What Lambda hands to a handler beside the event."""

    function_name = "f"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:eu-west-1:012345678912:function:f"
    aws_request_id = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        """Return plenty."""
        return 10_000


if kind == "ours":
    from storesync.webhook import handler
else:
    import boto3
    import requests

    client, session = boto3.client("dynamodb"), requests.Session()
    secret = os.environ["SECRET"].encode()

    def handler(event: dict, context: Context) -> dict:  # noqa: ARG001 - a handler's shape
        """Check, fetch, put."""
        signature = hmac.new(secret, event["body"].encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(event["headers"]["x-ld-signature"], signature):
            return {"statusCode": 401}
        response = session.get(url, headers={"Authorization": os.environ["SDK_KEY"]}, timeout=5)
        flags = response.json()
        item = {"namespace": {"S": "naive"}, "key": {"S": "all"}}
        body = zlib.compress(json.dumps(flags).encode())
        client.put_item(TableName=os.environ["FLAGSTORE_TABLE"], Item={**item, "body": {"B": body}})
        return {"statusCode": 202}


def send(event: dict) -> None:
    """Hand in one event."""
    status = handler(event, Context())["statusCode"]
    assert status == ACCEPTED, status


send(events[0])
cold = {"cold_ms": time.perf_counter() - begun, "cold_cpu": time.process_time() - cpu}
for event in events[1:20]:
    send(event)
begun, cpu = time.perf_counter(), time.process_time()
for event in events[20:]:
    send(event)
count = len(events) - 20
warm = {"ms": (time.perf_counter() - begun) / count, "cpu": (time.process_time() - cpu) / count}
print("\n" + json.dumps({name: value * 1000 for name, value in {**cold, **warm}.items()}))
