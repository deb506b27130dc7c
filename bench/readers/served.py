"""Responds to requests as ServeFunction: a first one, then many of each kind for their CPU time.

Told on the command line: the secrets of a server's and a browser's key.
"""

import phases  # isort: skip - begins to count

import base64
import json
import sys
import time

from flagserve.function import handler

REQUESTS = 100


def event(route: str, secret: str, **headers: str) -> dict:
    """Return a request as an HTTP API hands it to a function."""
    return {
        "version": "2.0",
        "routeKey": route,
        "rawPath": route.split()[1],
        "rawQueryString": "userId=ada&properties[plan]=team&properties[country]=DE",
        "headers": {"authorization": secret, "unleash-client-spec": "5.2.0", **headers},
        "requestContext": {"http": {"sourceIp": "192.0.2.1"}},
        "isBase64Encoded": False,
    }


server, browser = sys.argv[1:]
gzip = {"accept-encoding": "gzip"}
features = event("GET /api/client/features", server, **gzip)
events = {"features": features, "frontend": event("GET /api/frontend", browser, **gzip)}


def body(response: dict) -> bytes:
    """Return the body that API Gateway sends."""
    text = response.get("body", "").encode()
    return base64.b64decode(text) if response.get("isBase64Encoded") else text


def first() -> str:
    """Respond to the first request; returns its status."""
    response = handler(features, None)
    events["304"] = {
        **features,
        "headers": {**features["headers"], "if-none-match": response["headers"]["etag"]},
    }
    return response["statusCode"]


def many() -> str:
    """Respond to many; returns JSON: kind to status, bytes, CPU ms and ms of a request."""
    found = {}
    for kind, given in events.items():
        response = handler(given, None)
        begun, cpu = time.perf_counter(), time.process_time()
        for _ in range(REQUESTS):
            handler(given, None)
        cpu, took = time.process_time() - cpu, time.perf_counter() - begun
        found[kind] = {
            "status": response["statusCode"],
            "bytes": len(body(response)),
            "cpu": 1000 * cpu / REQUESTS,
            "ms": 1000 * took / REQUESTS,
        }
    return json.dumps(found)


def respond() -> str:
    """Respond to the next line."""
    return many() if "304" in events else first()


phases.serve(respond)
