"""The command ui: a page on this machine that shows what other commands print, and changes nothing.

The same browser runs pages of other websites, so a request must have the token that the command
printed, be addressed to this machine, and not come from another website.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import sys
import traceback
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import click

from storesync.cli.app import command, storesync
from storesync.cli.screen import CommandError, Exit, to_error
from storesync.cli.views import VIEWS
from storesync.model import Secret
from storesync.signature import secret_matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message

    from storesync.cli.app import Operator
    from storesync.cli.views import View

HOST = "127.0.0.1"
TOKEN_BYTES = 32
MAX_BODY = 65_536
JSON = "application/json"
OK, DENIED, NOT_FOUND, NO_METHOD, BUG, FAILED = 200, 403, 404, 405, 500, 502
STATUSES = {Exit.USAGE: 400, Exit.NOT_FOUND: NOT_FOUND, Exit.BUG: BUG}
"""Exit code → status of an error; others are ``FAILED``."""
OPEN_AGAIN = "open the address that `storesync ui` printed"


# -- access to the page ---------------------------------------------------------------------------


class Response(NamedTuple):
    """A response, before it is sent."""

    status: int
    body: bytes
    kind: str = JSON


class RefusedError(Exception):
    """A request that is refused."""

    def __init__(self, status: int, message: str, remedy: str = OPEN_AGAIN) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "remedy": remedy}


class Site:
    """Responds to the page's requests, and to no others."""

    def __init__(self, operator: Operator, port: int, token: Secret) -> None:
        self._operator = operator
        self._token = token
        self._hosts = [f"{HOST}:{port}", f"localhost:{port}"]
        text = Path(__file__).with_name("ui.html").read_text(encoding="utf-8")
        self._page = text.encode()
        self.headers = {
            "Content-Security-Policy": _policy(text),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }

    def respond(self, handler: BaseHTTPRequestHandler) -> Response:
        """Return the response to a request."""
        try:
            self._check_caller(handler.headers)
            path, _, text = handler.path.partition("?")
            query = dict(parse_qsl(text, keep_blank_values=True))
            if path == "/":
                self._check_token(query.get("token"))
                return self._get_page(handler.command)
            kind, _, given = handler.headers.get("Authorization", "").partition(" ")
            self._check_token(given if kind == "Bearer" else None)
            view = _view(handler.command, path)
            return self._call(view, query if handler.command == "GET" else _body(handler))
        except RefusedError as refused:
            return _document(refused.status, {"error": refused.error})

    def _check_caller(self, headers: Message) -> None:
        """Refuse requests from other websites, whose domain may resolve to this machine."""
        if headers.get_all("Host", []) not in [[host] for host in self._hosts]:
            raise RefusedError(DENIED, "the request names another host")
        origins = [f"http://{host}" for host in self._hosts]
        if any(origin not in origins for origin in headers.get_all("Origin", [])):
            raise RefusedError(DENIED, "the request is from a page of another website")
        sites = headers.get_all("Sec-Fetch-Site", [])
        if any(site not in {"none", "same-origin"} for site in sites):
            raise RefusedError(DENIED, "the request is from a page of another website")

    def _check_token(self, given: str | None) -> None:
        if not secret_matches(given, [self._token]):
            raise RefusedError(DENIED, "the token is missing or of an earlier run")

    def _get_page(self, method: str) -> Response:
        if method != "GET":
            raise RefusedError(NO_METHOD, "the page is only read")
        return Response(OK, self._page, "text/html; charset=utf-8")

    def _call(self, view: View, given: Mapping[str, Any]) -> Response:
        try:
            result, shown = view(self._operator, given)
        except Exception as error:  # noqa: BLE001 - fails this request, not the server
            known = _known(error, str(given.get("source", "SOURCE")))
            return _document(STATUSES.get(known.code, FAILED), {"error": known.to_json()})
        return _document(OK, {"result": result, "shown": shown})


def _policy(page: str) -> str:
    """Return a policy that allows only the page's own script and style."""
    hashes = {}
    for name in ("script", "style"):
        (text,) = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = hashlib.sha256(text.encode()).digest()
        hashes[name] = f"{name}-src 'sha256-{base64.b64encode(digest).decode()}'"
    return (
        f"default-src 'none'; {hashes['script']}; {hashes['style']}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )


def _view(method: str, path: str) -> View:
    found = VIEWS.get(f"{method} {path}")
    if found is None:
        known = any(route.endswith(f" {path}") for route in VIEWS)
        raise RefusedError(NO_METHOD if known else NOT_FOUND, f"there is no {method} {path}")
    return found


def _body(handler: BaseHTTPRequestHandler) -> dict[str, Any]:
    """Read a JSON object, a type that other websites' forms cannot send."""
    length = handler.headers.get("Content-Length", "")
    if handler.headers.get_content_type() != JSON:
        raise RefusedError(415, f"the body is not {JSON}")
    # More digits could be too many for int().
    if not (re.fullmatch("[0-9]{1,9}", length) and int(length) <= MAX_BODY):
        raise RefusedError(413, f"the body has no length, or more than {MAX_BODY} bytes")
    try:
        found = json.loads(handler.rfile.read(int(length)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError(400, "the body is not a JSON object")
    return found


def _known(error: Exception, source: str) -> CommandError:
    """Convert an error as for the terminal; a bug's traceback is printed there."""
    if isinstance(error, click.UsageError):
        return CommandError(Exit.USAGE, error.message)
    try:
        return to_error(error, source)
    except Exception:  # noqa: BLE001 - a bug
        traceback.print_exc()
        return CommandError(Exit.BUG, "a bug in storesync: its traceback is in the terminal")


def _document(status: int, content: object) -> Response:
    return Response(status, json.dumps(content).encode())


# -- the server -----------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "storesync", ""

    def do_GET(self) -> None:
        self._send(self.server.site.respond(self))

    do_POST = do_GET  # noqa: N815 - the same

    def send_error(self, code: int, message: str | None = None, _: str | None = None) -> None:
        """Refuse other methods and invalid requests, with the headers of all responses."""
        status = NO_METHOD if code == 501 else code  # noqa: PLR2004 - http.server's for methods
        self._send(_document(status, {"error": {"message": message or "not a request"}}))

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        length = str(len(response.body))
        about = {"Content-Type": response.kind, "Content-Length": length}
        for name, value in (about | self.server.site.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, *_: object) -> None:
        """Log nothing: the page's address contains the token."""


class _Server(ThreadingHTTPServer):
    site: Site

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's
        """Ignore connections that the browser closed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def served(operator: Operator, port: int = 0) -> Iterator[tuple[_Server, str]]:
    """Open the port, any free one by default; yield the server, and the page's address."""
    # Sessions of boto3 are not safe to use in several threads; the clients are.
    for service in ("dynamodb", "sqs", "ssm"):
        operator.aws(service)
    try:
        server = _Server((HOST, port), _Handler)
    except OSError as error:
        remedy = "choose another --port, or omit it"
        raise CommandError(Exit.USAGE, f"port {port}: {error.strerror}", remedy) from None
    token = secrets.token_urlsafe(TOKEN_BYTES)
    server.site = Site(operator, server.server_port, Secret(token))
    with server:
        yield server, f"http://{HOST}:{server.server_port}/?token={token}"


@command(storesync, "ui")
@click.option("--port", type=click.IntRange(1, 65_535), metavar="N", help="Default: a free one.")
def ui(operator: Operator, *, port: int | None) -> None:
    """Show sources, flags, history and usage on a local page, which changes nothing.

    Open the address that it prints in a browser on this machine. Anyone who has the address can
    read all flags until you end this command with Ctrl-C.
    """
    with served(operator, port or 0) as (server, address):
        operator.screen.result({"url": address}, [address])
        operator.screen.note(f"shows {operator.deployment.name}; end it with Ctrl-C")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
