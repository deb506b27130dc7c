"""Tells its resident memory in MB: the interpreter, the first flag, all flags evaluated once."""

import json
import re
import sys
from pathlib import Path


def megabytes() -> float:
    """Return the resident memory now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


bare = megabytes()

import flagstore  # noqa: E402 - measured

person = {"key": "ada", "plan": "team", "country": "DE"}
flags = flagstore.client("prod")
flags.value(sys.argv[1], person)
first = megabytes()
count = len(flags.all(person))
print(json.dumps({"bare": bare, "first": first, "all": megabytes(), "count": count}))
