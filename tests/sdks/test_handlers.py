"""Handlers for Node.js run on what flagstore wrote: those of examples/node, and published guides'.

The guides are not part of this repository. Their code runs as written, but for their own errors and
for what they leave to the reader, both listed here.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt

import node_bundle
from flagserve.access import ClientKeys
from flagserve.app import App
from local import nodejs
from local.processes import free_port
from rigs import SOURCE, RedisRig, open_rig
from sdks import processes, sets
from sdks.processes import NODE_FOLDER
from sdks.sets import FLAG
from simulators.serving import Gateway
from tests.docs.pages import blocks
from tests.e2e.deployments import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rigs import AnyRig

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples" / "node"
GUIDES = REPOSITORY.parent / "shared" / "guides"
HANDLERS = sorted(path.name for path in EXAMPLES.glob("*.mjs"))
EVENT = {"user": "ada", "plan": "team"}
EVENTS = "events.launchdarkly.com:443"
"""Where LaunchDarkly's SDKs send events, which the guides do not turn off; no test gets through."""
TOKEN = "a-client-key-of-a-test"
YOUR_WORK = """/*
        ...evaluate your flags and do your work here...
    */
    callback();"""
# This SDK returns defaults until it is connected to Redis.
OUR_WORK = """store.initialized(() => {
        ldClient.variation('my-flag', { key: 'anonymous' }, false, callback);
    });"""


@contextmanager
def handler(
    folder: Path, name: str, text: str, environment: Mapping[str, str]
) -> Iterator[processes.Ask]:
    """Start a handler in the file *name*, and give the function that sends it an event."""
    processes.needs_node()
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(nodejs.MODULES)
    (folder / name).write_text(text, encoding="utf-8")
    with processes.node("invoke.mjs", str(folder / name), environment) as ask:
        yield lambda event, ahead=0: ask(event=event, ahead=ahead)


def environment(rig: AnyRig) -> dict[str, str]:
    more = {"FLAGSTORE_REDIS_URL": rig.server.url()} if isinstance(rig, RedisRig) else {}
    return rig.environment() | more


def layer_folder(folder: Path) -> Path:
    """Return a folder of packages like the layer's."""
    shutil.copytree(REPOSITORY / "src" / "node", folder / "layer" / "flagstore")
    node_bundle.bundle(folder / "layer" / "flagstore")
    return folder / "layer"


@pytest.mark.parametrize("name", HANDLERS)
def test_example_handler_runs(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    """The flag is on, and nothing is connected to but the store; also with the Node.js layer."""
    provider, store, *_ = name.removesuffix(".mjs").split("-")
    on_layer = store == "layer"
    store = "dynamodb" if on_layer else store
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    with sets.server(provider) as server:
        rig = open_rig(request, store, server, provider)
        assert rig.sync(document=provider == "unleash").outcome == "published"
        layer = {"NODE_PATH": str(layer_folder(tmp_path))} if on_layer else {}
        with handler(tmp_path, name, text, environment(rig) | layer) as invoke:
            response = invoke(EVENT)
    assert response == {"result": {"newCheckout": True}, "connections": [rig.address()]}


def without_store(folder: Path) -> dict[str, str]:
    """Return the environment of a function with the layer, where nothing listens."""
    return {
        "NODE_PATH": str(layer_folder(folder)),
        "FLAGSTORE_TABLE": "any",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_LAMBDA_FUNCTION_NAME": "shop",
    }


def test_handlers_on_the_layer_start_without_the_store(tmp_path: Path) -> None:
    """They return their defaults, before the ten seconds of INIT are over."""
    names = [name for name in HANDLERS if "-layer" in name]
    variables = without_store(tmp_path)
    with ExitStack() as stack:
        started = [
            stack.enter_context(handler(tmp_path, name, (EXAMPLES / name).read_text(), variables))
            for name in names
        ]
        for name, invoke in zip(names, started, strict=True):
            assert invoke(EVENT)["result"] == {"newCheckout": False}, name


def test_split_handler_finds_the_packages_of_its_sdk(tmp_path: Path) -> None:
    """Also beside another SDK of Split's, whose version is what `import` finds."""
    processes.needs_node()
    packages = tmp_path / "node_modules" / "@splitsoftware"
    (packages / "splitio-commons").mkdir(parents=True)
    (packages / "splitio-browserjs").symlink_to(
        nodejs.MODULES / packages.name / "splitio-browserjs"
    )
    text = (EXAMPLES / "split-layer.mjs").read_text(encoding="utf-8")
    with handler(tmp_path, "split-layer.mjs", text, without_store(tmp_path)) as invoke:
        assert invoke(EVENT)["result"] == {"newCheckout": False}


def test_unleash_handler_refreshes_and_keeps_its_flags(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """After 30 s it sees a change; once there is no document, the last flags stay."""
    name = "unleash-dynamodb.mjs"
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    with sets.server("unleash") as server:
        rig = open_rig(request, "dynamodb", server, "unleash")
        rig.sync(document=True)
        with handler(tmp_path, name, text, environment(rig)) as invoke:
            seen = [invoke(EVENT)]
            server.set_flag(FLAG, enabled=False)
            assert rig.sync(document=True).outcome == "published"
            seen += [invoke(EVENT, 29), invoke(EVENT, 31)]
            key = {"namespace": {"S": "prod:document"}, "key": {"S": "features"}}
            rig.table.client.delete_item(TableName=rig.place()["table"], Key=key)
            seen.append(invoke(EVENT, 62))
    assert [response["result"]["newCheckout"] for response in seen] == [True, True, False, False]


def test_examples_use_the_tested_versions() -> None:
    ours, tested = (
        json.loads((folder / "package.json").read_text())["dependencies"]
        for folder in (EXAMPLES, NODE_FOLDER)
    )
    assert ours.items() <= tested.items()


def test_page_shows_the_handlers() -> None:
    found = blocks("docs/other-languages.md")
    shown = [block.text for block in found if block.kind == "javascript"]
    names = ("launchdarkly-layer.mjs", "launchdarkly-dynamodb.mjs")
    assert shown == [(EXAMPLES / name).read_text(encoding="utf-8") for name in names]


def code(guide: str, holds: str) -> str:
    """Return the last block of a guide that holds a string."""
    paths = list(GUIDES.glob(f"{guide}-*.md"))
    if not paths:
        pytest.skip("allowed: the published guides are not next to this repository")
    text = paths[0].read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    tokens = MarkdownIt().parse(text)
    found = [token.content for token in tokens if token.type in {"code_block", "fence"}]
    return [text for text in found if holds in text][-1]


def changed(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def guide_000() -> str:
    """Its `await` needs an async function, which must not end before the callback is called."""
    changes = {
        "handler = (event, context, callback)": "handler = async (event, context, callback)",
        "client\n      .getTreatment(": "await client\n      .getTreatment(",
    }
    return changed(code("000", "SplitFactory"), changes)


def guide_001() -> str:
    """`init` ignores the nested option, and so is not in daemon mode."""
    return changed(code("001", "use_ldd: true"), {"{ldConfig}": "ldConfig", YOUR_WORK: OUR_WORK})


def guide_002() -> str:
    """Its last handler, with a store as the section before creates it; nothing is changed."""
    name = "launchdarkly-node-server-sdk"
    begin = f'const LaunchDarkly = require("{name}");\n'
    begin += "const client = LaunchDarkly.init(process.env.LAUNCHDARKLY_SDK_KEY);\n"
    with_store = code("002", f'require("{name}-dynamodb")') + code("002", "useLdd: true")
    return changed(code("002", "SIGTERM"), {begin: with_store})


class Guide(NamedTuple):
    code: Callable[[], str]
    provider: str
    store: str
    prefix: str
    """What its SDK reads if the code sets none."""
    flag: str
    result: Any


OK = {"statusCode": 200, "body": "true"}
AS_WRITTEN = {
    "000": Guide(guide_000, "split", "redis", "", "my_feature", "Treatment for a_key: on"),
    "001": Guide(guide_001, "launchdarkly", "redis", "launchdarkly", "my-flag", True),
    "002": Guide(guide_002, "launchdarkly", "dynamodb", "", "my-flag", OK),
}


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_guide_runs_as_written(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    """It reads rows under its SDK's prefix, and connects only to the store."""
    guide = AS_WRITTEN[name]
    text = guide.code()
    with sets.server(guide.provider, guide.flag) as server:
        rig = open_rig(request, guide.store, server, guide.provider)
        assert rig.sync(rows_prefix=guide.prefix).rows_error == ""
        host, _, port = rig.address().partition(":")
        variables = {
            "ELASTICACHE_PRIMARY_ENDPOINT": rig.address(),
            "ELASTICACHE_ENDPOINT": host,
            "ELASTICACHE_PORT": port,
            "DYNAMODB_TABLE": rig.place().get("table", ""),
            "LAUNCHDARKLY_SDK_KEY": "sdk-key",
        }
        with handler(tmp_path, "index.cjs", text, rig.environment() | variables) as invoke:
            response = invoke({})
    assert response["result"] == guide.result
    assert {*response["connections"]} - {EVENTS} == {rig.address()}


def test_guide_004_runs_with_another_url(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Nothing but the URL is changed, to ServeFunction's, which is all that it connects to.

    It gets its flags there, and registers.
    """
    text = code("004", 'isEnabled("simpleFlag")')
    with sets.server("unleash", "simpleFlag") as server:
        rig = open_rig(request, "dynamodb", server, "unleash")
        assert rig.sync().outcome == "published"
    client, connection = rig.reader()
    key = {"source": SOURCE, "kind": "server", "secrets": [TOKEN]}
    keys = ClientKeys(lambda _: {"guide": json.dumps(key)}, print, time.monotonic)
    expected = [("GET /api/client/features", 200), ("POST /api/client/register", 202)]
    with closing(connection), Gateway(App(keys, lambda _: client, print).respond) as gateway:
        changes = {"https://sandbox.getunleash.io/enterprise/api/": f"{gateway.url}/"}
        variables = rig.environment() | {"API_TOKEN": TOKEN}
        with handler(tmp_path, "index.mjs", changed(text, changes), variables) as invoke:
            response = invoke({})
            wait_for(lambda: {*expected} <= {*gateway.seen}, "registration")
    assert {status for _, status in gateway.seen} == {200, 202}
    assert response["result"]["body"] == {"message": "Feature flag 'simpleFlag' is enabled"}
    assert response["connections"] == [urlsplit(gateway.url).netloc]
