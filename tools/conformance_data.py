"""Fetch the providers' own test data and verify it, for the conformance tests.

`make conformance-data` writes it to .conformance-data. conformance-data.json lists the files, their
commits and SHA-256. They are under the Apache licence 2.0 and belong to the providers, so they are
not in this repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import requests

HERE = Path(__file__).parent
MANIFEST = HERE / "conformance-data.json"
BASE_URL = "https://raw.githubusercontent.com"
TIMEOUT_S = 60


class FetchError(Exception):
    """A file cannot be fetched, or its digest differs."""


def manifest() -> dict[str, Any]:
    """Return the manifest: ``commits`` by repository, and ``files``."""
    content: dict[str, Any] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return content


def fetch(entry: dict[str, Any], commit: str, base_url: str) -> bytes:
    """Fetch one file.

    Raises:
        FetchError: it cannot be fetched, or its digest differs.
    """
    url = f"{base_url}/{entry['repository']}/{commit}/{entry['path']}"
    try:
        response = requests.get(url, timeout=TIMEOUT_S)
        response.raise_for_status()
    except requests.RequestException as error:
        message = f"{url}: {error}"
        raise FetchError(message) from error
    data = response.content
    if "lines" in entry:
        data = b"".join(data.splitlines(keepends=True)[: entry["lines"]])
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        message = f"{url}: its SHA-256 is {found}, not {entry['sha256']}"
        raise FetchError(message)
    return data


def main() -> int:
    """Fetch the files that are missing or differ."""
    parser = argparse.ArgumentParser(description="fetch the providers' own test data")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base-url", default=BASE_URL)
    arguments = parser.parse_args()
    content = manifest()
    try:
        for entry in content["files"]:
            file = arguments.folder / entry["file"]
            if file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"]:
                continue
            data = fetch(entry, content["commits"][entry["repository"]], arguments.base_url)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            print(f"  {entry['file']}")
    except FetchError as error:
        print(f"conformance-data: {error}", file=sys.stderr)
        return 1
    print(f"All {len(content['files'])} files are in {arguments.folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
