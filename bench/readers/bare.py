"""Starts and ends: what the interpreter takes, with json."""

import json  # noqa: F401 - what is measured
