"""The data of the providers' suites is the data that the suites passed with."""

from __future__ import annotations

import hashlib

import pytest

from data import DATA, needed
from tools.conformance_data import manifest

FILES = manifest()["files"]


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry["file"])
def test_each_file_is_the_one_that_is_fetched(entry: dict[str, str]) -> None:
    """Each file that the tests read has the checksum of the manifest."""
    data = needed(entry["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == entry["sha256"]


def test_every_file_of_the_suites_is_in_the_manifest() -> None:
    """The manifest lists every file, so that all of them can be fetched."""
    needed("launchdarkly")
    there = {
        str(path.relative_to(DATA))
        for folder in ("launchdarkly", "split")
        for path in (DATA / folder).rglob("*")
        if path.is_file()
    }
    assert there == {entry["file"] for entry in FILES}
