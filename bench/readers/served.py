"""Responds to requests as ServeFunction: a first one, then many of each kind for their CPU time.

Told on the command line: the route, and the secret of a client that may use it.
"""

import phases  # isort: skip - begins to count

import base64
import json
import sys
import time

from flagserve.function import handler

REQUESTS = 100

route, secret = sys.argv[1:]
headers = {
    "authorization": secret,
    "unleash-client-spec": "5.2.0",
    "accept-encoding": "gzip",
}
event = {
    "version": "2.0",
    "routeKey": route,
    "rawQueryString": "userId=ada&properties[plan]=team&properties[country]=DE",
    "headers": headers,
    "requestContext": {"http": {"sourceIp": "192.0.2.1"}},
    "isBase64Encoded": False,
}
etags: list[str] = []


def respond() -> str:
    """Respond to the first request, and return its status; then to many, and return figures."""
    if etags:
        again = {**event, "headers": {**headers, "if-none-match": etags[0]}}
        return json.dumps({"new": figures(event), "unchanged": figures(again)})
    response = handler(event, None)
    etags.append(response["headers"]["etag"])
    return response["statusCode"]


def figures(given: dict) -> dict:
    """Return status, bytes, CPU ms and ms of a request."""
    response = handler(given, None)
    text = response.get("body", "").encode()
    begun, cpu = time.perf_counter(), time.process_time()
    for _ in range(REQUESTS):
        handler(given, None)
    cpu, took = time.process_time() - cpu, time.perf_counter() - begun
    return {
        "status": response["statusCode"],
        "bytes": len(base64.b64decode(text) if response.get("isBase64Encoded") else text),
        "cpu": 1000 * cpu / REQUESTS,
        "ms": 1000 * took / REQUESTS,
    }


phases.serve(respond)
