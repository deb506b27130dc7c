"""Commands for clients of ServeFunction: add, list, remove."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from flagserve.access import parse

if TYPE_CHECKING:
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Done, Rig

SERVER = ("--source", "shop", "--kind", "server")
BROWSER = ("--source", "shop", "--kind", "browser")
PAGE = ("--origin", "https://shop.example", "--flag", "new-checkout", "--flag", "banner-*")
TOKEN = "default:production.0123456789abcdef"


@pytest.fixture
def shop(rig: Rig, unleash: UnleashSimulator) -> UnleashSimulator:
    """Give the provider of the source ``shop``."""
    assert rig.add("shop", unleash).code == 0
    return unleash


def add(rig: Rig, name: str, *options: str, typed: str = "") -> Done:
    return rig.run("client", "add", name, *options, typed=typed)


def stored(rig: Rig, name: str) -> Any:
    return rig.parameter(f"clients/{name}")


@pytest.mark.usefixtures("shop")
def test_secret_is_printed_once(rig: Rig) -> None:
    """Only `add` prints it, with the URL and where both go; it is stored encrypted."""
    server, browser = add(rig, "api", *SERVER), add(rig, "page", *BROWSER, *PAGE)
    secrets = [stored(rig, name)["secrets"] for name in ("api", "page")]
    for done, (secret,), url, field in (
        (server, secrets[0], "https://serve.example/api", "Authorization)"),
        (browser, secrets[1], "https://serve.example/api/frontend", "clientKey"),
    ):
        assert done.code == 0, done
        assert f"1. URL: {url}\n" in done.out
        assert f"{field}, shown only now: {secret}\n" in done.out
        assert len(secret) == 43
    listed = rig.run("client", "list")
    assert [line.split() for line in listed.out.splitlines()[2:]] == [
        ["api", "shop", "server"],
        ["page", "shop", "browser", "https://shop.example", "new-checkout,", "banner-*"],
    ]
    changed = add(rig, "api", "--replace")
    for done in (listed, changed, rig.run("client", "list", "--json"), rig.run("doctor")):
        assert not any(secret in done.out + done.err for (secret,) in secrets)
    path = f"{rig.prefix}/clients/api"
    parameter = rig.aws.client("ssm").get_parameter(Name=path)["Parameter"]
    assert parameter["Type"] == "SecureString"


@pytest.mark.usefixtures("shop")
def test_existing_token_keeps_working(rig: Rig) -> None:
    """A given secret is stored and not printed, so an application changes only its URL."""
    done = add(rig, "api", *SERVER, "--secret-file", "-", typed=f"{TOKEN}\n")
    assert (done.code, TOKEN in done.out, "the given one" in done.out) == (0, False, True), done
    key = parse("api", json.dumps(stored(rig, "api")))
    assert key.digests == (sha256(TOKEN.encode()).digest(),)


@pytest.mark.usefixtures("shop")
def test_replace_keeps_what_is_not_given(rig: Rig) -> None:
    """Its secret stays until it is rotated; then the previous one stays valid until the next."""
    assert add(rig, "page", *BROWSER, *PAGE).code == 0
    before = stored(rig, "page")
    again = add(rig, "page", *BROWSER, *PAGE)
    assert (again.code, "already exists" in again.err, stored(rig, "page")) == (2, True, before)
    done = add(rig, "page", "--replace", "--flag", "new-*")
    assert (done.code, "clientKey: unchanged" in done.out) == (0, True), done
    assert stored(rig, "page") == {**before, "flags": ["new-*"]}
    (first,) = before["secrets"]
    assert add(rig, "page", "--replace", "--new-secret").code == 0
    second = stored(rig, "page")["secrets"][0]
    assert stored(rig, "page")["secrets"] == [second, first]
    given = ("--replace", "--secret-file", rig.file("token", TOKEN))
    for _ in range(2):  # an interrupted command may be repeated
        assert add(rig, "page", *given).code == 0
    assert stored(rig, "page")["secrets"] == [TOKEN, second]


@pytest.mark.usefixtures("shop", "prod")
def test_nothing_is_written_after_an_error(rig: Rig) -> None:
    assert add(rig, "api", *SERVER, "--secret-file", "-", typed=TOKEN).code == 0
    before = rig.parameters()
    short, same = (rig.file(name, text) for name, text in (("short", "x" * 15), ("same", TOKEN)))
    for options, code, text in (
        (("--kind", "server"), 2, "missing option: --source"),
        (("--source", "shop"), 2, "missing option: --kind"),
        (("--source", "none", "--kind", "server"), 3, "no source 'none'"),
        ((*SERVER, "--store-url-file", rig.file("url", "rediss://c")), 2, "shop is in dynamodb"),
        ((*BROWSER, "--origin", "*"), 2, "browser needs --origin and --flag"),
        ((*BROWSER, "--flag", "*"), 2, "browser needs --origin and --flag"),
        ((*BROWSER, *PAGE, "--origin", "https://shop.example/"), 4, "must look like https://shop"),
        ((*SERVER, *PAGE), 4, '"origins" and "flags"'),
        ((*SERVER, "--secret-file", short), 4, "16 characters"),
        ((*SERVER, "--secret-file", same), 2, "client api has the same secret"),
        ((*SERVER, "--secret-file", "missing"), 2, "is missing"),
    ):
        done = add(rig, "new", *options)
        assert (done.code, text in done.err) == (code, True), (options, done)
        assert TOKEN not in done.err
    for widened in (("--source", "prod"), ("--kind", "browser", *PAGE)):
        done = add(rig, "api", "--replace", *widened)
        assert (done.code, "add another client" in done.err) == (2, True), done
    for name in ("UPPER", "a/b", "ä", "-x", "x" * 49):
        assert add(rig, name, *SERVER).code == 2
    assert rig.parameters() == before


def test_client_of_redis(rig: Rig, unleash: UnleashSimulator) -> None:
    """It needs the readers' URL of Redis, which is not printed."""
    url = rig.file("url", "rediss://reader:tests-own@cache:6379/0")
    rig.put_parameter("sources/shop", {"provider": "unleash", "store": "redis", "allow_http": True})
    credential = {"key": unleash.sdk_key, "base_url": unleash.url, "store_url": "rediss://cache"}
    rig.put_parameter("credentials/shop", {"provider": "unleash", **credential})
    missing = add(rig, "api", *SERVER)
    assert (missing.code, "--store-url-file" in missing.err) == (2, True), missing
    for done in (add(rig, "api", *SERVER, "--store-url-file", url), rig.run("client", "list")):
        assert (done.code, "tests-own" in done.out) == (0, False), done
    assert stored(rig, "api")["store_url"] == "rediss://reader:tests-own@cache:6379/0"


@pytest.mark.usefixtures("prod")
def test_clients_of_another_provider(rig: Rig) -> None:
    """LaunchDarkly's have the steps of its SDK for browsers and, like all others, of OFREP."""
    of = ("--source", "prod", "--kind")
    server, browser = add(rig, "api", *of, "server"), add(rig, "page", *of, "browser", *PAGE)
    for done, where, name in (
        (server, "in the OFREP provider:", "Authorization)"),
        (browser, "in the LaunchDarkly SDK of the page:", "client-side ID"),
    ):
        assert done.code == 0, done
        assert f"{where}\n  1. URL: https://serve.example\n" in done.out
        assert f"{name}, shown only now: " in done.out
    assert [each["level"] for each in rig.json("doctor")["deployment"][-2:]] == ["ok", "ok"]
    rig.environ.pop("FLAGSTORE_SERVE_BASE_URL")
    done = add(rig, "api", "--replace", "--new-secret")
    assert "1. URL: <ServeBaseUrl> without /api\n" in done.out


@pytest.mark.usefixtures("shop")
def test_url_is_not_known(rig: Rig) -> None:
    """Without ServeFunction, a note says how to deploy it."""
    rig.environ.pop("FLAGSTORE_SERVE_BASE_URL")
    done = add(rig, "page", *BROWSER, *PAGE)
    assert (done.code, "1. URL: <ServeBaseUrl>/frontend\n" in done.out) == (0, True), done
    assert "ServeFlags=true" in done.out


@pytest.mark.usefixtures("shop")
def test_remove(rig: Rig) -> None:
    done = rig.run("client", "remove", "api")
    assert (done.code, "there are no clients yet" in done.err) == (3, True)
    assert "storesync client add" in rig.run("client", "list").out
    add(rig, "api", *SERVER)
    assert rig.run("client", "remove", "api").code == 2
    assert rig.json("client", "remove", "api", "--yes") == {"client": "api"}
    assert "clients/api" not in rig.parameters()


@pytest.mark.usefixtures("shop")
def test_clients_without_a_source_are_reported(rig: Rig) -> None:
    """Removing their source and the doctor report them; the doctor finds invalid ones, too."""
    assert add(rig, "api", *SERVER).code == 0
    rig.put_parameter("clients/odd", {"source": "shop", "kind": "robot", "secrets": [TOKEN]})
    (api, odd) = rig.json("doctor", code=10)["deployment"][-2:]
    assert (api["level"], api["message"]) == ("ok", "server key of source shop")
    assert (odd["level"], '"kind" must be' in odd["message"]) == ("problem", True)
    assert TOKEN not in repr(odd)
    assert "invalid" in rig.run("client", "list").out
    assert "`storesync client remove odd`" in add(rig, "odd", *SERVER, "--replace").err
    done = rig.run("source", "remove", "shop", "--yes")
    assert (done.code, "`storesync client remove api`" in done.out) == (0, True), done
    (api, _) = rig.json("doctor", code=10)["deployment"][-2:]
    assert (api["level"], "no source 'shop'" in api["message"]) == ("problem", True)
