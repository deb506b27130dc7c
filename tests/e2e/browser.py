"""A real headless browser on a page with its own origin; `tools/setup-e2e` installs it."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

NODE_FOLDER = Path(__file__).with_name("node")
MODULES = NODE_FOLDER / "node_modules"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
)
TIMEOUT_S = 90


def needs_browser(package: str = "@unleash/proxy-client-react") -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None or not (MODULES / package).exists():
        pytest.skip(f"Chromium or {package} is missing: run `make setup-e2e`")
    return found


class Page:
    """Serves the page and receives its results."""

    def __init__(self, script: bytes, task: Mapping[str, Any], on: Callable[[str], None]) -> None:
        self.found: Queue[Any] = Queue()
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content, kind = b'<body><script type="module" src="/page.js"></script>', "text/html"
                if self.path == "/task":
                    content, kind = json.dumps(task).encode(), "application/json"
                elif self.path == "/page.js":
                    content, kind = script, "text/javascript"
                self._reply(content, kind)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/done":
                    page.found.put(json.loads(body))
                else:
                    on(self.path)
                self._reply(b"", "text/plain")

            def _reply(self, content: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def page(
    task: Mapping[str, Any], on: Callable[[str], None] = lambda _: None, script: str = "page.jsx"
) -> Iterator[tuple[str, Page]]:
    """Serve a script of node/ with its task; yield its origin. *on* is called with other posts."""
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory()))
        bundle = folder / "page.js"
        subprocess.run(
            [
                *(MODULES / ".bin" / "esbuild", NODE_FOLDER / script, "--bundle"),
                *("--format=esm", "--jsx=automatic", "--log-level=error", f"--outfile={bundle}"),
                '--define:process.env.NODE_ENV="production"',
            ],
            check=True,
        )
        made = Page(bundle.read_bytes(), task, on)
        running.callback(made.server.server_close)
        threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
        running.callback(made.server.shutdown)
        yield f"http://127.0.0.1:{made.server.server_port}", made


def browse(url: str, served: Page) -> Any:
    """Open the page in the browser and return the page's results."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        command = [needs_browser(), *OPTIONS, f"--user-data-dir={home}", url]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found = served.found.get(timeout=TIMEOUT_S)
        except Empty:
            pytest.fail(f"the page found nothing within {TIMEOUT_S} s")
        finally:
            process.terminate()
            process.wait(10)
    assert "failed" not in found, found["failed"]
    return found
