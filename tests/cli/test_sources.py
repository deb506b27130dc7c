"""Commands for sources: add, list, remove."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from flagstore.keys import snapshot_key
from local.stand_in import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from simulators.appconfig import AppConfigSimulator, Strategy, rich_flags
from simulators.appconfig_flags import experiment
from storesync import providers
from storesync.cli.parameters import AddOptions, SourceParameters, compose
from storesync.cli.screen import Screen
from storesync.cli.webhooks import UNLEASH_EVENTS, manual_steps
from storesync.model import Secret, WebhookConfig
from tests.cli.rig import ADMIN_TOKEN, Admin

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.redis_server import Server
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Rig

ENVIRONMENT = ("--webhook-option", "project=shop", "--webhook-option", "environment=production")
ALL = {"sources/prod", "credentials/prod", "webhooks/prod"}


def test_add_writes_three_parameters(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """With a new webhook secret; then it requests a sync. The key is never printed."""
    done = rig.add("prod", launchdarkly)
    again = rig.add("prod", launchdarkly, "--replace", "--json")
    listed = rig.run("source", "list", "--json")
    assert (done.code, again.code, listed.code) == (0, 0, 0)
    assert "\ncreate the webhook:" in done.out
    assert "\ncreate or update the webhook:" in rig.add("prod", launchdarkly, "--replace").out
    assert launchdarkly.sdk_key not in repr((done, again, listed))
    assert "https://webhooks.example/webhooks/prod" in listed.out
    assert rig.parameters() == ALL
    assert rig.parameter("sources/prod")["provider"] == "launchdarkly"
    assert rig.parameter("credentials/prod")["key"] == launchdarkly.sdk_key
    webhook = rig.parameter("webhooks/prod")
    assert (webhook["method"], len(webhook["secrets"][0])) == ("signature", 43)
    assert rig.requests() == ["prod", "prod", "prod"]


def test_add_appconfig(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Has no key and no webhook: those of another provider are deleted. Notes about deployments."""
    del prod
    with AppConfigSimulator(
        *rich_flags(5), access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
    ) as server:
        options = [f"--option={name}={text}" for name, text in server.options.items()]
        add = ("source", "add", "prod", "--provider", "appconfig", "--replace")
        missing = rig.run(*add)
        assert (missing.code, '"application" is missing' in missing.err) == (4, True)
        done = rig.run(*add, *options, "--base-url", server.url, "--allow-http")
    assert done.code == 0, done
    assert "the provider responds: 5 flags" in done.out
    assert "SyncFunction needs the stack's parameter AppConfigProfile" in done.out
    assert "webhook" not in done.out
    assert rig.json("source", "list")["sources"][0]["webhooks"] is None
    assert rig.parameters() == {"sources/prod", "credentials/prod"}
    assert "key" not in rig.parameter("credentials/prod")
    done = rig.run("source", "remove", "prod", "--yes")
    assert (done.code, "webhook" in done.out) == (0, False)


def test_deployment_in_progress(rig: Rig) -> None:
    """`status` shows its percentage and next step, `get` evaluates its version by the key."""
    with AppConfigSimulator(
        *rich_flags(5), access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
    ) as server:
        assert rig.add("shop", server).code == 0
        rig.json("sync", "shop")
        assert rig.json("status", "shop")["sources"][0]["deployment"] is None
        number = server.deploy(server.put(server.current()), Strategy(30, 20))
        server.step(number, 20.0)
        rig.json("sync", "shop")
        shown = rig.run("doctor", "shop").out
        assert "5 flags, 5 definitions from" in shown
    found = rig.json("status", "shop")["sources"][0]
    assert found["counts"]["flags"] == 5
    assert (found["deployment"]["number"], found["deployment"]["percentage"]) == (2, 20.0)
    shown = rig.run("status", "shop").out
    assert "shop: deployment 2 is deploying, at 20%" in shown
    assert "5         5" in " ".join(shown.split(" "))
    seen = set()
    for number in range(50):
        key = json.dumps({"key": f"{number}"})
        detail = rig.json("get", "shop", "search-flag-0001", "--context", key)["detail"]
        seen.add((detail["version"], detail["deployment"]))
    assert seen == {(version, "deployment 2 at 20%, by key") for version in (1, 2)}


def test_flag_that_a_deployment_adds_or_changes(rig: Rig) -> None:
    """`get` shows it as the version has it that the context gets; `ui` lists it."""
    with AppConfigSimulator(
        *rich_flags(5), access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
    ) as server:
        rig.add("shop", server)
        rig.json("sync", "shop")
        document = server.current()
        changed = next(iter(document["values"]))
        document["flags"]["added"] = {"name": "added"}
        document["values"] |= {"added": {"enabled": True}, changed: {"enabled": False}}
        number = server.deploy(server.put(document), Strategy(30, 50))
        server.step(number, 50.0)
        rig.json("sync", "shop")
    assert rig.json("get", "shop", "added")["item"] == {"enabled": True}
    seen = set()
    for person in range(20):
        context = ("--context", json.dumps({"key": f"{person}"}))
        data = rig.json("get", "shop", changed, *context)
        is_new = data["detail"]["version"] == 2
        assert (data["item"] == {"enabled": False}) is is_new
        error = rig.json("get", "shop", "added", *context)["detail"]["error"]
        assert error == ("" if is_new else "FLAG_NOT_FOUND")
        seen.add(is_new)
    assert seen == {False, True}


def test_refused_deployment(rig: Rig) -> None:
    """`allow` shows which flags its new version would lose."""
    values, definitions = rich_flags(30)
    with AppConfigSimulator(
        values, definitions, access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
    ) as server:
        assert rig.add("shop", server).code == 0
        rig.json("sync", "shop")
        few = {key: dict(list(each.items())[:5]) for key, each in server.current().items()
               if isinstance(each, dict)}  # fmt: skip
        server.deploy(server.put({**server.current(), **few}), Strategy(30, 20))
        assert rig.run("sync", "shop").code == 8
        done = rig.run("allow", "shop", "--yes")
    assert done.code == 0, done
    assert done.err.count("- flags/") == 25


def test_appconfig_experiment(rig: Rig) -> None:
    """Its treatments are UNSUPPORTED until the source has the option for `split`."""
    values, definitions = rich_flags(5)
    key = "search-flag-0001"
    keys = {"access_key": ACCESS_KEY_ID, "secret_key": SECRET_ACCESS_KEY}
    with AppConfigSimulator(values, definitions, **keys) as server:
        assert rig.add("shop", server).code == 0
        server.run_experiment(key, experiment(values[key], '(eq $country "CH")', 50))
        get = ("get", "shop", key, "--context", '{"entityId": "ada", "country": "CH"}')
        for replace, error, rule in (
            ((), "UNSUPPORTED", ""),
            (("--replace", "--option=split_hash=flagstore"), "", "split (flagstore's hash)"),
        ):
            if replace:
                assert rig.add("shop", server, *replace).code == 0
            assert rig.json("sync", "shop")["sources"][0]["outcome"] == "published"
            detail = rig.json(*get)["detail"]
            assert (detail["error"], detail["rule"]) == (error, rule)
            assert rig.run("diff", "shop", "--exit-code").code == 0
        wrong = rig.add("shop", server, "--replace", "--option=split_hash=aws")
        assert (wrong.code, '"split_hash" must be flagstore; omit it' in wrong.err) == (4, True)
    assert rig.json("status", "--check")["sources"][0]["state"] == "ok"
    assert rig.run("history", "shop").code == 0


def test_nothing_is_written_after_an_error(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """A rejected key, and wrong fields, all at once; --no-check skips the check of the key."""
    wrong = ("--key-file", rig.file("wrong", "sdk-wrong-key-000"))
    binary = rig.folder / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for more, code, texts in (
        (wrong, 7, ["nothing was written", "--no-check"]),
        (("--method", "url"), 4, ['"method" must be one of signature', "nothing was written"]),
        (("--key-file", str(binary)), 2, ["not a text file"]),
        (("--register",), 2, ["--admin-token-file"]),
        (("--register", "--admin-token-file", wrong[1], "--key-file", wrong[1]), 2, ["--api-url"]),
    ):
        done = rig.add("prod", launchdarkly, *more)
        assert (done.code, [each for each in texts if each not in done.err]) == (code, []), done
        assert "--replace" not in done.err
        assert rig.parameters() == set()
    assert rig.add("prod", launchdarkly, *wrong, "--no-check").code == 0


def test_existing_source_needs_replace(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Then options that are left out stay, and so does the webhook's secret until it is rotated."""
    before = rig.parameter("webhooks/prod")
    assert rig.add("prod", prod).code == 2
    replace = ("source", "add", "prod", "--replace", "--no-check")
    assert rig.run(*replace, "--option", "filter=none").code == 0
    assert rig.parameter("webhooks/prod") == before
    assert rig.parameter("sources/prod")["options"] == {"filter": "none"}
    assert rig.parameter("sources/prod")["allow_http"] is True
    (first,) = before["secrets"]
    for _ in range(2):
        assert rig.run(*replace, "--new-secret").code == 0
    third, second = rig.parameter("webhooks/prod")["secrets"]
    assert len({first, second, third}) == 3


def test_rows_prefix(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """It may be empty, stays while it is left out, and belongs to one source."""
    replace = ("source", "add", "prod", "--replace", "--no-check")
    assert rig.run(*replace, "--rows-prefix", "", "--adopt").code == 0
    assert rig.run(*replace, "--no-adopt").code == 0
    stored = rig.parameter("sources/prod")
    assert (stored["rows_prefix"], stored["adopt"]) == ("", False)
    done = rig.add("other", prod, "--rows-prefix", "")
    assert (done.code, "source 'prod' stores its rows under the same" in done.err) == (4, True)
    assert "sources/other" not in rig.parameters()


@pytest.mark.usefixtures("prod")
def test_drain(rig: Rig, redis_server: Server) -> None:
    """It is for Split in Redis, with a note about bills, and stays while it is left out."""
    done = rig.run("source", "add", "prod", "--replace", "--no-check", "--drain")
    assert (done.code, '"drain" is for Split in Redis only' in done.err) == (4, True)
    assert "drain" not in rig.parameter("sources/prod")
    url, key = rig.file("url", redis_server.url()), rig.file("key", "split-key")
    add = ("source", "add", "fme", "--no-check", "--provider", "split", "--key-file", key)
    done = rig.run(*add, "--store", "redis", "--store-url-file", url, "--drain")
    assert (done.code, "Split, which may bill by users' keys" in done.out) == (0, True)
    assert rig.run("source", "add", "fme", "--no-check", "--replace").code == 0
    assert rig.parameter("sources/fme")["drain"] is True
    assert "drain=true" in rig.run("source", "list").out


UNLEASH = AddOptions(provider="unleash", key="token", base_url="https://u")
OTHER = {"provider": "launchdarkly", "options": {"filter": "x"}, "store": "redis", "rows": False}
SAME = {"provider": "unleash", "options": {"project": "x"}, "store": "redis", "rows": False}


@pytest.mark.parametrize(
    ("source", "kept", "secrets"),
    [
        ({}, {"options": {}}, 1),  # leftovers of an interrupted command are not used
        (OTHER, {"options": {}, "store": "redis", "rows": False}, 1),
        (SAME, SAME, 2),
    ],
)
def test_new_provider_or_address(
    source: dict[str, object], kept: dict[str, object], secrets: int
) -> None:
    """Readers keep their store. The old webhook secret stays valid only with the same provider."""
    own = {"provider": source.get("provider", "launchdarkly")}
    before = SourceParameters(
        json.dumps(source) if source else "",
        json.dumps({**own, "key": "old", "base_url": "https://old", "store_url": "rediss://c"}),
        json.dumps({**own, "secrets": ["s" * 16], "options": {"environment": "e"}}),
    )
    after = compose(UNLEASH, before)
    assert after.values("sources") == {**kept, "provider": "unleash"}
    store = {"store_url": "rediss://c"} if source else {}
    assert after.values("credentials") == {
        "provider": "unleash",
        "key": "token",
        "base_url": "https://u",
        **store,
    }
    webhook = after.values("webhooks")
    assert len(webhook["secrets"]) == secrets
    assert webhook["secrets"][0] != "s" * 16
    assert webhook["options"] == ({"environment": "e"} if source is SAME else {})


def test_register_with_unleash(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selects every event; a second run updates the same webhook."""
    admin = Admin(unleash, monkeypatch)
    token = ("--register", "--admin-token-file", rig.file("admin", ADMIN_TOKEN))
    done = rig.add("u", unleash, *token, "--webhook-option", "environment=production")
    assert "the webhook was created" in done.out
    (addon,) = admin.webhooks
    assert set(addon["events"]) == set(UNLEASH_EVENTS)
    assert addon["environments"] == ["production"]
    assert addon["parameters"] == {
        "url": "https://webhooks.example/webhooks/u",
        "authorization": rig.parameter("webhooks/u")["secrets"][0],
    }
    done = rig.run("source", "add", "u", "--replace", *token)  # whatever address is stored
    assert (done.code, f"--api-url {unleash.url}" in done.err) == (2, True), done
    assert "was updated" in rig.add("u", unleash, *token, "--replace").out
    assert [(method, path) for method, path, _ in admin.calls if method != "GET"] == [
        ("POST", "/api/admin/addons"),
        ("PUT", "/api/admin/addons/7"),
    ]


def test_register_with_launchdarkly(
    rig: Rig, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, with a policy that includes segments; a second run patches it."""
    admin = Admin(launchdarkly, monkeypatch)
    token = ("--register", "--admin-token-file", rig.file("admin", ADMIN_TOKEN))
    more = (*token, "--api-url", launchdarkly.url, *ENVIRONMENT)
    assert rig.add("prod", launchdarkly, *more).code == 0
    (made,) = admin.webhooks
    assert (made["on"], made["sign"]) == (True, True)
    assert made["secret"] == rig.parameter("webhooks/prod")["secrets"][0]
    assert [each["resources"] for each in made["statements"]] == [
        ["proj/shop:env/production:flag/*"],
        ["proj/shop:env/production:segment/*"],
        ["proj/shop:env/production:aiconfig/*", "proj/shop:aiconfig/*"],
    ]
    assert rig.add("prod", launchdarkly, *more, "--replace", "--new-secret").code == 0
    method, path, patch = admin.calls[-1]
    assert (method, path) == ("PATCH", "/api/v2/webhooks/7")
    values = {each["path"]: each["value"] for each in patch}
    assert values["/secret"] == rig.parameter("webhooks/prod")["secrets"][0]


@pytest.mark.parametrize("status", [403, 302])
def test_register_fails(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    Admin(unleash, monkeypatch).status = status
    token = ("--register", "--admin-token-file", rig.file("admin", ADMIN_TOKEN))
    done = rig.add("u", unleash, *token)
    assert done.code == 7
    assert f"responded with {status}" in done.err
    assert "by hand" in done.err
    assert rig.parameter("webhooks/u")["secrets"][0] in done.out
    assert rig.requests() == ["u"]


def test_list_reads_no_secret(rig: Rig) -> None:
    """Works without the credentials parameter; without sources it names the command to add one."""
    for command in (("source", "list"), ("status",)):
        assert "storesync source add" in rig.run(*command).out
    rig.put_parameter("sources/prod", {"provider": "launchdarkly", "options": {"filter": "\ud800"}})
    (found,) = rig.json("source", "list")["sources"]
    assert (found["source"], found["provider"]) == ("prod", "launchdarkly")
    assert "filter=\\ud800" in rig.run("source", "list").out


def test_removed_source_publishes_nothing(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Its flags stay readable, and no cached parameters restore it, until it is added again."""
    published = rig.state().published
    values = {path: rig.parameter(path) for path in rig.parameters()}
    prod.set_flag("new-checkout", on=True)
    assert rig.run("source", "remove", "prod").code == 2
    done = rig.json("source", "remove", "prod", "--yes")
    assert done["tombstone"] == rig.state().token
    assert rig.parameters() == set()
    assert rig.record(snapshot_key("prod")) is not None
    assert rig.run("status", "prod").code == 3
    for path, value in values.items():  # as a function has them that read them before
        rig.put_parameter(path, value)
    assert rig.json("sync", "prod", code=9)["sources"][0]["outcome"] == "pinned"
    rig.json("source", "remove", "prod", "--yes", "--purge")
    assert rig.record(snapshot_key("prod")) is None
    assert json.loads(rig.add("prod", prod, "--json").out)["restored"]
    rig.json("sync", "prod")
    assert rig.state().published > published


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("sources", {"rows": "no", "store": {}, "options": [7]}),
        ("credentials", {"key": 7, "base_url": {}}),
        ("webhooks", {"secrets": {"a": 1}, "method": [], "options": [7]}),
    ],
)
def test_invalid_parameters_are_reported_and_replaced(
    rig: Rig, prod: LaunchDarklySimulator, kind: str, fields: dict[str, object]
) -> None:
    """No content of a parameter ends a command with a traceback; --replace repairs it."""
    mistyped = {"provider": "launchdarkly", **fields}
    for value in ("{", "7", {"provider": ["launchdarkly"]}, mistyped):
        rig.put_parameter(f"{kind}/prod", value)
        assert rig.json("source", "list")["sources"][0]["source"] == "prod"
        for command in (("status",), ("source", "add", "prod", "--replace", "--new-secret")):
            assert rig.run(*command).code != 1
        more = ("--rows", "--store=dynamodb", "--method=signature")
        done = rig.add("prod", prod, "--replace", *more)
        assert done.code == 0, (value, done)


def test_forget_what_cannot_be_removed(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The store of a misconfigured source is unknown, and left alone; so with leftovers."""
    del prod
    remove = ("source", "remove", "prod", "--yes")
    rig.put_parameter("credentials/prod", "{")
    done = rig.run(*remove)
    assert (done.code, "--forget" in done.err) == (4, True)
    assert rig.run(*remove, "--purge", "--forget").code == 2
    assert rig.json(*remove, "--forget")["tombstone"] is None
    assert rig.parameters() == set()
    rig.put_parameter("credentials/prod", {"provider": "launchdarkly", "key": "sdk-left"})
    done = rig.json(*remove, "--purge")
    assert (done["tombstone"], done["purged"], rig.parameters()) == (None, False, set())
    assert rig.run(*remove).code == 3


@pytest.mark.parametrize("name", providers.names())
def test_manual_steps(name: str) -> None:
    for method in providers.get(name).methods:
        secret = Secret("s" * 16)
        sources = {"prod": {"environment": "e"}}
        webhook = WebhookConfig("prod", name, method, (secret,), "x-secret", sources)
        steps = "\n".join(manual_steps("https://webhooks.example/webhooks", webhook))
        assert "https://webhooks.example/webhooks/prod" in steps
        assert "s" * 16 in steps


def test_missing_secrets_are_asked_for(
    rig: Rig, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal, without echo; everything else takes options."""
    monkeypatch.setattr(Screen, "can_ask", True)
    options = ("--provider", "launchdarkly", "--base-url", launchdarkly.url, "--allow-http")
    done = rig.run("source", "add", "prod", *options, typed=f"{launchdarkly.sdk_key}\n")
    assert (done.code, launchdarkly.sdk_key in done.out + done.err) == (0, False), done
    done = rig.run("source", "add", "u", "--provider", "unleash")
    assert (done.code, "missing options: --base-url" in done.err) == (2, True)
    assert rig.run("source", "remove", "prod", typed="n\n").code == 2
    assert rig.parameters() == ALL
    assert rig.run("source", "remove", "prod", typed="y\n").code == 0
    assert rig.parameters() == set()
