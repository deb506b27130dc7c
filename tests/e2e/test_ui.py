"""The page of `storesync ui` in a real browser: by keyboard, and called by other websites."""

from __future__ import annotations

import http.server
import json
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from simulators import launchdarkly
from simulators.aws import create_table
from storesync.cli.app import Operator
from storesync.cli.screen import Screen
from storesync.cli.ui import served
from storesync.retry import SystemClock
from storesync.usage_records import DAY_S, UsageRecords
from tests.cli.rig import deployed

from .browser import MODULES, needs_browser
from .devtools import SHIFT, Browser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stand_in import StandIn

pytestmark = pytest.mark.e2e

REBOUND = "rebound.example"
"""A name that leads to this machine, as another website's may."""
WIDE, NARROW = 1280, 320
CONTROLS = "a[href], button, input, select, textarea, [tabindex='0']"
SHOWN = f"""[...document.querySelectorAll("{CONTROLS}")].filter((each) => each.checkVisibility())"""
FOCUSED = """(() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  const index = SHOWN.indexOf(document.activeElement);
  return [index, outlineStyle === "solid" && parseFloat(outlineWidth) >= 3];
})()""".replace("SHOWN", SHOWN)
QUIET = "!document.querySelector('[aria-busy]') && !document.body.innerText.includes('loading')"


@dataclass
class World:
    """A deployment, and the page's server."""

    address: str
    port: int
    requests: list[tuple[str, int]] = field(default_factory=list)
    """Each request with the status of its response."""

    def statuses(self) -> set[int]:
        """Return the statuses since the last call."""
        found = {status for _, status in self.requests}
        self.requests.clear()
        return found


@pytest.fixture(scope="module")
def world(aws: StandIn, dynamodb: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give a source with two versions and some usage, one that cannot be read, and the page."""
    needs_browser("axe-core")
    table = create_table(dynamodb)
    with ExitStack() as running:
        folder = tmp_path_factory.mktemp("ui")
        rig = running.enter_context(deployed(aws, table, folder))
        flags = launchdarkly.rich_flags(30)
        provider = running.enter_context(launchdarkly.LaunchDarklySimulator(*flags))
        provider.set_flag("new-checkout", on=False)
        assert rig.add("prod", provider).code == 0
        rig.json("sync")
        provider.set_flag("new-checkout", on=True)
        provider.set_flag("another")
        rig.json("sync")
        rig.put_parameter("sources/broken", {"provider": "launchdarkly"})
        records = UsageRecords(rig.aws.client("dynamodb"), table, SystemClock())
        now = int(time.time())
        records.record_use("prod", {"new-checkout": {"0": now - 300, "1": now - 40 * DAY_S}})
        patch = running.enter_context(pytest.MonkeyPatch.context())
        for name, value in rig.environ.items():
            patch.setenv(name, value)
        operator = Operator(Screen(as_json=True), None, None, None)
        server, address = running.enter_context(served(operator))
        made = World(address, server.server_port)
        respond = server.site.respond

        def recorded(handler: Any) -> Any:
            response = respond(handler)
            made.requests.append((f"{handler.command} {handler.path}", response.status))
            return response

        patch.setattr(server.site, "respond", recorded)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.callback(server.shutdown)
        yield made
    dynamodb.delete_table(TableName=table)


@pytest.fixture(scope="module")
def browser(world: World) -> Iterator[Browser]:  # noqa: ARG001 - it says what is missing
    rules = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    with Browser(needs_browser("axe-core"), rules) as made:
        yield made


@pytest.fixture
def page(browser: Browser, world: World) -> Browser:
    """Open the page, as it is before anything is chosen."""
    browser.resize(WIDE)
    browser.prefer(color_scheme="light", reduced_motion="no-preference")
    browser.open("about:blank")
    browser.events.clear()
    world.requests.clear()
    browser.open(world.address)
    browser.wait(f"document.querySelectorAll('#sources tbody tr').length === 2 && {QUIET}")
    return browser


def tab_to(page: Browser, selector: str) -> None:
    """Press Tab until this has the focus; what comes before it is passed."""
    for _ in range(150):
        page.press("Tab")
        if page.run(f"document.activeElement.matches({json.dumps(selector)})"):
            return
    pytest.fail(f"Tab does not reach {selector}")


def text(page: Browser, part: str) -> str:
    page.wait(QUIET)
    return str(page.run(f"document.getElementById('{part}').innerText"))


def said(page: Browser) -> str:
    """Return what the live region last said to screen readers."""
    return str(page.run("document.querySelector('[role=status]').textContent"))


def problems(page: Browser) -> list[Any]:
    """Return errors in the console: exceptions, and what the policy blocked."""
    found = []
    for name, about in page.events:
        if name == "Runtime.exceptionThrown":
            found.append(about["exceptionDetails"])
        if name == "Log.entryAdded" and about["entry"]["level"] in {"error", "warning"}:
            found.append(about["entry"])
    return found


def evaluate(page: Browser, context: str, shows: str) -> None:
    """Evaluate the flag for a context, and wait for the element that shows the result."""
    tab_to(page, "#context")
    page.write(context)
    tab_to(page, "#context-form button")
    page.press("Enter")
    page.wait(f"document.querySelector('#value {shows}')")


def show_all(page: Browser) -> None:
    """Use each control, by keyboard only."""
    tab_to(page, "#sources a[href='#prod']")
    page.press("Enter")
    page.wait("document.activeElement.id === 'source-title'")
    tab_to(page, "#key")
    page.write("new-checkout")
    page.press("Enter")
    page.wait("document.querySelector('#flag pre')")
    evaluate(page, '{"key": "ada", "plan": "pro"}', "dl")
    tab_to(page, "#from")
    page.press("ArrowDown")
    tab_to(page, "#diff-form button")
    page.press(" ")
    page.wait("document.querySelector('#diff pre')")
    tab_to(page, "#days")
    page.write("60")
    page.press("Enter")
    page.wait("document.querySelector('#usage table')")
    page.wait(QUIET)


# -- by keyboard ----------------------------------------------------------------------------------


def test_everything_is_done_by_keyboard(page: Browser, world: World) -> None:
    """From the list of sources to an evaluation, a difference and the unused flags."""
    assert "2 sources read, 1 need attention" in said(page)
    sources = text(page, "sources")
    assert "credentials/broken: is missing" in sources
    assert "fix: correct that parameter in SSM (docs/configure.md#sources)" in sources
    show_all(page)
    assert '"key": "new-checkout"' in text(page, "flag")
    assert "Value\ntrue" in text(page, "value")
    assert "Reason\nFALLTHROUGH" in text(page, "value")
    difference = text(page, "diff")
    assert "1 added, 1 changed" in difference
    assert '-  "on": false,' in difference
    assert '+  "on": true,' in difference
    assert "flags/another" in difference
    usage = text(page, "usage")
    assert "5 min ago" in usage
    assert said(page).startswith("Not used for 60 days: ")
    paths = [path for path, _ in world.requests]
    assert world.statuses() == {200}
    assert not [path for path in paths if "token" in path and not path.startswith("GET /?")]
    assert not [path for path in paths if "ada" in path]
    tab_to(page, "#usage li a[href='#prod/another']")
    page.press("Enter")
    page.wait("document.querySelector('#flag h4')?.textContent === 'another'")
    assert page.run("document.activeElement.id") == "flag-title"
    assert page.run("document.title") == "another - prod - storesync"
    page.run("history.back()")
    page.wait("document.querySelector('#flag h4')?.textContent === 'new-checkout'")
    assert problems(page) == []


def test_focus_reaches_each_control_and_is_visible(page: Browser) -> None:
    """With Tab in the order of the page, and with Shift and Tab back; nothing holds it."""
    show_all(page)
    count = page.run(f"{SHOWN}.length")
    assert count > 30
    page.run(f"{SHOWN}[0].focus()")
    order = [page.run(FOCUSED)]
    while len(order) < count:
        page.press("Tab")
        order.append(page.run(FOCUSED))
    assert order == [[index, True] for index in range(count)]
    for index in reversed(range(count - 1)):
        page.press("Tab", SHIFT)
        assert page.run(FOCUSED) == [index, True]


def test_wrong_input_is_explained(page: Browser) -> None:
    """Beside the field, and by the live region."""
    show_all(page)
    tab_to(page, "#again")
    evaluate(page, "ada", ".error")
    assert "write it as JSON" in text(page, "value")
    assert "write it as JSON" in said(page)
    assert page.run("document.getElementById('context').ariaInvalid") == "true"
    tab_to(page, "#again")
    tab_to(page, "#key")
    page.write("no-such-flag")
    page.press("Enter")
    page.wait("document.querySelector('#flag .error')")
    assert "no flag 'no-such-flag'" in said(page)


def test_sources_that_fail_are_explained(page: Browser) -> None:
    """Each part of a source that cannot be read says why, and how to correct it."""
    tab_to(page, "#sources a[href='#broken']")
    page.press("Enter")
    page.wait("document.querySelectorAll('#source .error').length === 2")
    tab_to(page, "#usage-form button")
    page.press("Enter")
    page.wait("document.querySelector('#usage .error')")
    for part in ("flags", "history", "usage"):
        assert "source add broken --replace" in text(page, part)
    for form in ("context-form", "diff-form"):  # of nothing that could be used
        assert not page.run(f"document.getElementById('{form}').checkVisibility()")


def test_ended_server_is_explained(page: Browser) -> None:
    page.call("Network.enable")
    blocked = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.call("Network.emulateNetworkConditions", **blocked)
    tab_to(page, "#again")
    page.press("Enter")
    page.wait("document.querySelector('#sources .error')")
    assert "start it again" in text(page, "sources")
    page.call("Network.emulateNetworkConditions", **(blocked | {"offline": False}))
    page.call("Network.disable")


# -- for everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_axe_finds_nothing(page: Browser, scheme: str, width: int) -> None:
    """In each state: names, roles, headings, landmarks, tables, contrast."""
    page.prefer(color_scheme=scheme)
    page.resize(width)
    axe = (MODULES / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    page.run(axe + "; 0")
    found = [page.run("axe.run()")]
    show_all(page)
    found.append(page.run("axe.run()"))
    tab_to(page, "#again")
    evaluate(page, "ada", ".error")
    found.append(page.run("axe.run()"))
    for each in found:
        assert len(each["passes"]) > 20
        shown = [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in each["violations"]]
        assert shown == []
        # On a narrow page axe cannot see the colors of cells that are scrolled out of sight.
        unsure = {one["id"] for one in each["incomplete"]}
        assert unsure <= ({"color-contrast"} if width == NARROW else set())


@pytest.mark.parametrize(("width", "scale"), [(NARROW, 1), (WIDE // 2, 2)])
def test_page_fits(page: Browser, width: int, scale: float) -> None:
    """On 320 px, and at 200% of 1280 px; only tables scroll, by themselves."""
    page.resize(width, scale)
    show_all(page)
    assert page.run("innerWidth") == width
    assert page.run("document.documentElement.scrollWidth") <= width
    wide = f"{SHOWN}.filter((each) => each.getBoundingClientRect().right > {width} && "
    assert page.run(f"{wide}!each.closest('.scroll')).map((each) => each.outerHTML)") == []


def test_preferences(page: Browser) -> None:
    """Dark where the user prefers it; nothing moves, whatever they prefer."""
    colors = []
    for scheme in ("light", "dark"):
        page.prefer(color_scheme=scheme, reduced_motion="reduce")
        colors.append(page.run("getComputedStyle(document.body).backgroundColor"))
    assert colors == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]
    show_all(page)
    moving = "getComputedStyle(each).transitionDuration !== '0s' || each.getAnimations().length"
    assert page.run(f"[...document.querySelectorAll('*')].filter((each) => {moving}).length") == 0
    assert page.run("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


# -- other websites -------------------------------------------------------------------------------

ATTACKS = """(async () => {
  const found = {};
  const headers = { Authorization: `Bearer ${TOKEN}` };
  const read = async (options, path) => {
    const response = await fetch(`${TARGET}${path}`, options);
    return response.type === "opaque" ? "opaque" : response.text();
  };
  const attempt = (name, action) => action().then(
    (text) => { found[name] = text; }, (error) => { found[name] = error.name; });
  const json = { "Content-Type": "application/json" };
  await attempt("fetch", () => read({ headers }, "/api/sources"));
  await attempt("fetch-page", () => read({}, `/?token=${TOKEN}`));
  await attempt("no-cors", () => read({ mode: "no-cors", headers }, "/api/sources"));
  await attempt("no-cors-page", () => read({ mode: "no-cors" }, `/?token=${TOKEN}`));
  await attempt("post", () => read(
    { method: "POST", headers: { ...headers, ...json }, body: "{}" }, "/api/evaluate"));
  await attempt("no-cors-post", () => read(
    { method: "POST", mode: "no-cors", body: "{}" }, "/api/evaluate"));
  const loaded = (made) => new Promise((done) => {
    made.onload = () => done("loaded");
    made.onerror = () => done("error");
    document.body.append(made);
  });
  const make = (name, attributes) => Object.assign(document.createElement(name), attributes);
  const src = `${TARGET}/?token=${TOKEN}`;
  await attempt("script", () => loaded(make("script", { src })));
  await attempt("image", () => loaded(make("img", { src })));
  const frame = make("iframe", { src, name: "inside" });
  await attempt("frame", () => loaded(frame));
  found["frame-text"] = String(frame.contentDocument?.body?.innerText);
  const form = make("form", { method: "post", action: `${TARGET}/api/evaluate`, target: "inside" });
  const posted = new Promise((done) => { frame.onload = done; });
  document.body.append(form);
  form.submit();
  await posted;
  found["form-text"] = String(frame.contentDocument?.body?.innerText);
  return found;
})()"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """Serve an empty page of another origin; give its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>another website</title><body>")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", REBOUND])
def test_other_websites_read_and_call_nothing(
    browser: Browser, world: World, elsewhere: int, host: str
) -> None:
    """Even if they know port and token; another port of this machine is another website, too."""
    browser.open(f"http://{host}:{elsewhere}/")
    world.requests.clear()
    target, token = world.address.split("/?token=")
    attacks = ATTACKS.replace("${TARGET}", target).replace("${TOKEN}", token)
    found = browser.run(attacks)
    fetches = {"fetch", "fetch-page", "post", "no-cors", "no-cors-page", "no-cors-post"}
    assert {name: found.pop(name) for name in fetches} == dict.fromkeys(fetches, "TypeError")
    assert found.pop("script") == found.pop("image") == "error"
    assert found == {"frame": "loaded", "frame-text": "undefined", "form-text": "undefined"}
    seen = list(world.requests)
    assert len(seen) >= 6, seen
    assert world.statuses() == {403}, seen


def test_name_that_leads_here_is_refused(browser: Browser, world: World) -> None:
    """Under another website's name, the page is not shown, and its scripts can call nothing."""
    token = world.address.partition("=")[2]
    world.requests.clear()
    browser.open(f"http://{REBOUND}:{world.port}/?token={token}")
    assert "names another host" in browser.run("document.body.innerText")
    call = f"fetch('/api/sources', {{headers: {{Authorization: 'Bearer {token}'}}}})"
    assert browser.run(f"{call}.then(r => r.status, (error) => error.name)") in {403, "TypeError"}
    assert world.statuses() == {403}
