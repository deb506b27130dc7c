"""The data of the providers' own suites is what it was when the suites passed."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from data import DATA, REPOSITORY, needed
from tools.conformance_data import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = manifest()["files"]
TOOL = REPOSITORY / "tools" / "conformance_data.py"


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry["file"])
def test_each_file_is_the_one_that_is_fetched(entry: dict[str, str]) -> None:
    """The sums of the manifest are those of the files that the tests read."""
    data = needed(entry["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == entry["sha256"]


def test_every_file_of_the_suites_is_in_the_manifest() -> None:
    """So that everybody can have all of them."""
    needed("launchdarkly")
    there = {
        str(path.relative_to(DATA))
        for folder in ("launchdarkly", "split")
        for path in (DATA / folder).rglob("*")
        if path.is_file()
    }
    assert there == {entry["file"] for entry in FILES}


class Upstream(http.server.ThreadingHTTPServer):
    """Serves the files by the paths of their repositories."""

    daemon_threads = True
    damaged = False

    def __init__(self) -> None:
        commits = manifest()["commits"]
        self.paths = {
            f"/{e['repository']}/{commits[e['repository']]}/{e['path']}": needed(e["file"])
            for e in FILES
        }
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Upstream

    def do_GET(self) -> None:
        """Send the file, with lines after it that are cut off where only some are wanted."""
        file = self.server.paths[self.path]
        more = b"1,2,3,4\n" * 10 if file.name in {"murmur3.csv", "legacy-hash.csv"} else b""
        body = file.read_bytes() + (b"damaged" if self.server.damaged else more)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Run it."""
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(upstream: Upstream, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool."""
    url = f"http://127.0.0.1:{upstream.server_port}"
    command = [sys.executable, str(TOOL), str(folder), f"--base-url={url}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_tool_fetches_all_files_and_only_once(upstream: Upstream, tmp_path: Path) -> None:
    """From the pinned commits, each checked; a second run fetches nothing."""
    done = run(upstream, tmp_path)
    assert done.returncode == 0, done.stderr
    for entry in FILES:
        data = (tmp_path / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    upstream.paths.clear()
    assert run(upstream, tmp_path).returncode == 0


def test_a_file_that_is_another_one_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    """Nothing is kept of it, and both sums are said."""
    upstream.damaged = True
    done = run(upstream, tmp_path)
    assert done.returncode == 1
    assert FILES[0]["sha256"] in done.stderr
    assert not list(tmp_path.iterdir())
