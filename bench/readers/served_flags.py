"""Evaluates over HTTP as ServeFunction does, many times for the CPU time of each kind of request.

Told on the command line: the provider, a flag's name, and the secrets of a server and of a browser.
"""

import phases  # isort: skip - begins to count

import json
import sys
import time
from base64 import urlsafe_b64encode

from flagserve.function import handler

REQUESTS = {"one": 2_000, "all": 50, "page": 50, "unchanged": 2_000, "page unchanged": 2_000}
ADA = {"plan": "team", "country": "DE", "email": "anna@example.com"}
EVALX = "GET /sdk/evalx/{environment}/contexts/{context}"

provider, flag, server, browser = sys.argv[1:]
body = json.dumps({"context": {"targetingKey": "60", **ADA}})
context = urlsafe_b64encode(json.dumps({"kind": "user", "key": "60", **ADA}).encode()).decode()
by_key = {"headers": {"authorization": f"Bearer {server}", "accept-encoding": "gzip"}}
to_page = {"headers": {"origin": "https://shop.example", "accept-encoding": "gzip"}}
events = {
    "one": {
        **by_key,
        "routeKey": "POST /ofrep/v1/evaluate/flags/{key+}",
        "pathParameters": {"key": flag},
        "body": body,
    },
    "all": {**by_key, "routeKey": "POST /ofrep/v1/evaluate/flags", "body": body},
}
if provider == "launchdarkly":
    path = {"environment": browser, "context": context}
    events["page"] = {**to_page, "routeKey": EVALX, "pathParameters": path}


def respond() -> str:
    """Return the figures of each kind of request."""
    for name in ("all", "page"):
        if name in events:
            response = handler(events[name], None)
            given = {**events[name]["headers"], "if-none-match": response["headers"]["etag"]}
            unchanged = "unchanged" if name == "all" else "page unchanged"
            events[unchanged] = {**events[name], "headers": given}
    return json.dumps({name: figures(event, REQUESTS[name]) for name, event in events.items()})


def figures(event: dict, count: int) -> dict:
    """Return status and CPU ms of a request."""
    response = handler(event, None)
    cpu = time.process_time()
    for _ in range(count):
        handler(event, None)
    cpu = time.process_time() - cpu
    return {"status": response["statusCode"], "cpu": 1000 * cpu / count}


phases.serve(respond)
