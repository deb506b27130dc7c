"""OpenFeature's OFREP provider for Python, unchanged: see node/ofrep.mjs."""

from __future__ import annotations

import json
import sys
from typing import Any

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

url, token = sys.argv[1:]
api.set_provider(OFREPProvider(url, headers_factory=lambda: {"X-API-Key": token}))
client = api.get_client()
METHODS: dict[str, tuple[Any, Any]] = {
    "boolean": (client.get_boolean_details, False),
    "string": (client.get_string_details, "default"),
    "integer": (client.get_integer_details, -1),
    "float": (client.get_float_details, -1.0),
    "object": (client.get_object_details, {"default": True}),
}


def details(name: str, kind: str, context: EvaluationContext) -> list[Any]:
    method, default = METHODS[kind]
    found = method(name, default, context)
    return [found.value, found.reason, found.variant, found.error_code and found.error_code.value]


for line in sys.stdin:
    results = []
    for asked in json.loads(line)["asked"]:
        given, flags = asked["context"], asked["flags"]
        attributes = {key: value for key, value in given.items() if key != "targetingKey"}
        context = EvaluationContext(given.get("targetingKey"), attributes)
        results.append({name: details(name, kind, context) for name, kind in flags.items()})
    print(json.dumps(results), flush=True)
