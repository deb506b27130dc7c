"""The entry point of ServeFunction. Importing it starts the function."""

from __future__ import annotations

import os
from typing import Any

from flagserve.runtime import open_app

_app = open_app(os.environ)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle one request of API Gateway's HTTP API (payload 2.0)."""
    return _app.respond(event)


_app.start()
