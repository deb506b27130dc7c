"""Sources: adding asks for what it needs and writes three parameters, removing leaves no trap."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from flagstore.keys import snapshot_key
from local.stand_in import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from simulators.appconfig import AppConfigSimulator, rich_flags
from simulators.unleash import UnleashSimulator
from simulators.unleash import rich_flags as unleash_flags
from storesync import providers
from storesync.cli.adding import Given, compose
from storesync.cli.guidance import clicks, guide
from storesync.cli.parameters import Texts
from storesync.cli.registration import UNLEASH_EVENTS
from storesync.model import Secret, WebhookConfig
from tests.cli.rig import REPOSITORY, Admin

if TYPE_CHECKING:
    from pathlib import Path

    from simulators.launchdarkly import LaunchDarklySimulator
    from tests.cli.rig import Rig

ENVIRONMENT = ("--webhook-option", "project=shop", "--webhook-option", "environment=production")


def test_adding_writes_all_three_parameters(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """They are what docs/configure.md says; the secret is new, and the source is rung."""
    done = rig.add("prod", launchdarkly, *ENVIRONMENT)
    assert done.code == 0, done
    assert rig.parameters() == {"sources/prod", "credentials/prod", "webhooks/prod"}
    assert rig.parameter("sources/prod")["provider"] == "launchdarkly"
    assert rig.parameter("credentials/prod")["key"] == launchdarkly.sdk_key
    webhook = rig.parameter("webhooks/prod")
    assert (webhook["method"], len(webhook["secrets"][0])) == ("signature", 43)
    assert [sync_request["source"] for sync_request in rig.requests()] == ["prod"]


def test_adding_says_what_to_click(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """URL, secret and policy, ready to be pasted."""
    done = rig.add("prod", launchdarkly, *ENVIRONMENT)
    secret = rig.parameter("webhooks/prod")["secrets"][0]
    assert "the key works: 30 flags" in done.out
    assert "URL: https://webhooks.example/webhooks/prod" in done.out
    assert f"secret: {secret}" in done.out
    assert "proj/shop:env/production:segment/*" in done.out


def test_adding_appconfig_says_what_becomes_of_a_gradual_deployment(rig: Rig) -> None:
    """It needs neither key nor webhook; without an address of its own it has one parameter."""
    with AppConfigSimulator(
        *rich_flags(5), access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
    ) as server:
        options = [f"--option={name}={text}" for name, text in server.options.items()]
        address = ("--base-url", server.url, "--allow-http")
        done = rig.run("source", "add", "shop", "--provider", "appconfig", *options, *address)
    assert done.code == 0, done
    assert "it can be read from here: 5 flags" in done.out
    assert "a gradual deployment becomes 0 -> 100 % here" in done.out
    assert "AppConfigProfile=" in done.out
    assert "webhook" not in done.out
    assert rig.parameters() == {"sources/shop", "credentials/shop"}
    named = ("source", "add", "plain", "--provider", "appconfig", *options, "--no-check")
    assert rig.run(*named).code == 0
    assert rig.parameters() == {"sources/shop", "credentials/shop", "sources/plain"}
    gone = rig.run("source", "remove", "plain", "--yes")
    assert (gone.code, "webhook" in gone.out) == (0, False)
    missing = rig.run("source", "add", "bare", "--provider", "appconfig")
    assert missing.code != 0
    assert '"application" is missing' in missing.err


def test_the_key_is_never_printed(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """Neither for people nor as JSON."""
    for done in (
        rig.add("prod", launchdarkly),
        rig.add("prod", launchdarkly, "--replace", "--json"),
        rig.run("source", "list", "--json"),
    ):
        assert done.code == 0
        assert launchdarkly.sdk_key not in done.out + done.err


def test_a_key_that_does_not_work_is_not_written(
    rig: Rig, launchdarkly: LaunchDarklySimulator
) -> None:
    """The provider's word is shown, and nothing is configured; --no-check skips that."""
    wrong = ("--key-file", rig.file("wrong", "sdk-wrong-key-000"))
    done = rig.add("prod", launchdarkly, *wrong)
    assert (done.code, rig.parameters()) == (7, set())
    assert ("nothing was written" in done.err, "--replace" in done.err) == (True, False)
    assert rig.add("prod", launchdarkly, *wrong, "--no-check").code == 0


def test_nobody_to_ask(rig: Rig) -> None:
    """Without a terminal it names the options that are missing, all at once."""
    done = rig.run("source", "add", "u", "--provider", "unleash")
    assert done.code == 2
    assert "--base-url, --key-file must be given" in done.err
    assert rig.run("source", "add", "u").code == 2


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00"])
def test_a_file_without_a_secret(rig: Rig, content: bytes) -> None:
    """It is named as what is wrong, and is not taken as an option that was left out."""
    file = rig.folder / "key"
    file.write_bytes(content)
    done = rig.run("source", "add", "prod", "--provider", "launchdarkly", "--key-file", str(file))
    assert (done.code, "'--key-file'" in done.err, str(file) in done.err) == (2, True, True)


@pytest.mark.parametrize("name", ["Prod", "-x", "a" * 49])
def test_a_name_that_cannot_be_one(rig: Rig, name: str) -> None:
    """It is refused before anything is asked or read."""
    done = rig.run("source", "add", "--", name)
    assert done.code == 2
    assert "is no name of a source" in done.err


def test_wrong_fields_are_all_said_at_once(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """As the functions would say it; nothing is written."""
    short = ("--secret-file", rig.file("short", "x"))
    done = rig.add("prod", launchdarkly, *short, "--method", "url")
    assert done.code == 4
    assert '"method" must be one of signature' in done.err
    assert "16 characters" in done.err
    assert ("nothing was written" in done.err, "--replace" in done.err) == (True, False)
    assert rig.parameters() == set()


def test_a_source_that_is_there_is_not_overwritten(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Only with --replace; then what is not given stays, the webhook's secret too."""
    before = rig.parameter("webhooks/prod")
    assert rig.add("prod", prod).code == 2
    done = rig.run("source", "add", "prod", "--replace", "--option", "filter=none", "--no-check")
    assert done.code == 0, done
    assert rig.parameter("webhooks/prod") == before
    source = rig.parameter("sources/prod")
    assert (source["options"], source["allow_http"]) == ({"filter": "none"}, True)


def test_a_secret_is_rotated_without_a_gap(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The new one comes first and the old one stays valid; the next time it goes."""
    first = rig.parameter("webhooks/prod")["secrets"]
    for _ in range(2):
        assert rig.add("prod", prod, "--replace", "--new-secret").code == 0
    second, third = rig.parameter("webhooks/prod")["secrets"]
    assert len({*first, second, third}) == 3


def test_another_provider_takes_nothing_over(
    rig: Rig, prod: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """Options, key and secret of the one before fit nothing of the new one."""
    del prod
    assert rig.add("prod", unleash, "--replace").code == 0
    webhook = rig.parameter("webhooks/prod")
    assert (webhook["provider"], webhook["method"], len(webhook["secrets"])) == (
        "unleash",
        "authorization",
        1,
    )


def test_a_key_comes_with_its_provider_and_address(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Where a new key goes is said in the same command, whatever is stored."""
    renew = ("source", "add", "prod", "--replace", "--key-file", rig.file("new", prod.sdk_key))
    before = rig.parameter("credentials/prod")
    prod.requests.clear()
    for more, missing in (
        ((), "--provider must be given"),
        (("--base-url", prod.url), "--provider must be given"),
        (("--provider", "launchdarkly"), "--base-url must be given"),
    ):
        done = rig.run(*renew, *more)
        assert (done.code, missing in done.err) == (2, True), done
    assert (rig.parameter("credentials/prod"), prod.requests) == (before, [])
    code, shown = terminal(rig, list(renew), ["launchdarkly", prod.url])
    assert (code, f"[{prod.url}]" in shown) == (0, True), shown
    assert rig.parameter("credentials/prod") == before


def test_another_address_takes_a_key_and_makes_a_secret(
    rig: Rig, unleash: UnleashSimulator
) -> None:
    """The stored key stays with the server that it was stored with, as does the secret."""
    assert rig.add("u", unleash).code == 0
    first = rig.parameter("webhooks/u")["secrets"]
    with UnleashSimulator(*unleash_flags(5), token="*:production.other") as other:
        change = ("source", "add", "u", "--replace", "--base-url", other.url)
        done = rig.run(*change, "--no-check")
        assert (done.code, "--key-file must be given" in done.err) == (2, True), done
        assert other.requests == []
        assert rig.add("u", other, "--replace").code == 0
        assert {request.headers["authorization"] for request in other.requests} == {other.token}
    secrets = rig.parameter("webhooks/u")["secrets"]
    assert (len(secrets), secrets[1:]) == (2, first)


def test_leftovers_are_nobodys(
    rig: Rig, launchdarkly: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """Credentials and webhook without a source, or beside one of another provider."""
    old = {"provider": "launchdarkly", "key": "sdk-old", "base_url": launchdarkly.url}
    webhook = {"provider": "launchdarkly", "secrets": ["old-secret-of-the-webhook"]}
    new = ("--provider", "unleash", "--key-file", rig.file("key", unleash.sdk_key))
    for source in ("", {"provider": "unleash", "allow_http": True}):
        rig.put_parameter("credentials/u", old)
        rig.put_parameter("webhooks/u", webhook)
        if source:
            rig.put_parameter("sources/u", source)
        done = rig.run("source", "add", "u", *new, "--no-check", "--replace")
        assert (done.code, "--base-url must be given" in done.err) == (2, True), done
        assert rig.add("u", unleash, "--replace").code == 0
        assert rig.parameter("credentials/u")["base_url"] == unleash.url
        assert webhook["secrets"][0] not in rig.parameter("webhooks/u")["secrets"]
    assert launchdarkly.requests == []


def test_another_provider_is_asked_for_anew(
    rig: Rig, prod: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """The key and the address of the one before are no response; a person is asked for both."""
    del prod
    done = rig.run("source", "add", "prod", "--replace", "--provider", "unleash")
    assert (done.code, "--base-url, --key-file must be given" in done.err) == (2, True)
    command = ["source", "add", "prod", "--replace", "--provider", "unleash", "--allow-http"]
    code, shown = terminal(rig, command, [unleash.url, unleash.sdk_key, "production"])
    assert code == 0, shown
    assert rig.parameter("sources/prod")["options"] == {"environment": "production"}


def test_another_provider_goes_on_in_the_same_store() -> None:
    """Readers stay where they are; of what is the provider's, nothing stays."""
    before = Texts(
        json.dumps({"provider": "launchdarkly", "store": "redis", "options": {"filter": "x"}}),
        json.dumps({"provider": "launchdarkly", "key": "sdk-1", "store_url": "rediss://cache"}),
        json.dumps({"provider": "launchdarkly", "secrets": ["s" * 16]}),
    )
    asked = Given(
        provider="unleash", key="token", base_url="https://u", options={}, webhook_options={}
    )
    after = compose(asked, before)
    assert after.values("sources") == {"provider": "unleash", "store": "redis", "options": {}}
    assert after.values("credentials") == {
        "provider": "unleash",
        "key": "token",
        "base_url": "https://u",
        "store_url": "rediss://cache",
    }
    assert "s" * 16 not in after.webhooks


def test_a_provider_without_key_and_webhook_leaves_none_behind(
    rig: Rig, prod: LaunchDarklySimulator
) -> None:
    """Else the old key would make the source a wrong one."""
    del prod
    options = ("--option=application=a", "--option=environment=b", "--option=profile=c")
    more = ("--provider", "appconfig", *options, "--no-check")
    assert rig.run("source", "add", "prod", "--replace", *more).code == 0
    assert rig.parameters() == {"sources/prod"}


# -- registering ----------------------------------------------------------------------------------


def test_unleash_gets_the_webhook_by_its_api(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every event, which its dashboard cannot do; a second time changes the same one."""
    admin = Admin(unleash, monkeypatch)
    token = ("--register", "--admin-token-file", rig.file("admin", "admin-token"))
    done = rig.add("u", unleash, *token, "--webhook-option", "environment=production")
    assert "nothing to click" in done.out
    addon = admin.webhooks[0]
    assert set(addon["events"]) == set(UNLEASH_EVENTS)
    assert addon["environments"] == ["production"]
    assert addon["parameters"] == {
        "url": "https://webhooks.example/webhooks/u",
        "authorization": rig.parameter("webhooks/u")["secrets"][0],
    }
    assert "was changed" in rig.add("u", unleash, *token, "--replace").out
    assert [(method, path) for method, path, _ in admin.calls if method != "GET"] == [
        ("POST", "/api/admin/addons"),
        ("PUT", "/api/admin/addons/7"),
    ]
    assert len(admin.webhooks) == 1


def test_launchdarkly_gets_the_webhook_by_its_api(
    rig: Rig, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, and with the policy that includes segments; a second time patches it."""
    admin = Admin(launchdarkly, monkeypatch)
    token = ("--register", "--admin-token-file", rig.file("admin", "admin-token"))
    more = (*token, "--api-url", launchdarkly.url, *ENVIRONMENT)
    assert rig.add("prod", launchdarkly, *more).code == 0
    made = admin.webhooks[0]
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


@pytest.mark.parametrize("status", [403, 404, 302])
def test_an_api_that_refuses(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The response is shown with what to do; the source is configured and rung, the clicks left."""
    Admin(unleash, monkeypatch).status = status
    token = ("--register", "--admin-token-file", rig.file("admin", "admin-token"))
    done = rig.add("u", unleash, *token)
    assert done.code == 7
    assert f"responded with {status}" in done.err
    assert "clicks" in done.err
    assert rig.parameter("webhooks/u")["secrets"][0] in done.out
    assert [sync_request["source"] for sync_request in rig.requests()] == ["u"]


def test_registering_needs_a_token(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """And the address of an API; nothing is written before."""
    assert "--admin-token-file" in rig.add("prod", launchdarkly, "--register").err
    token = ("--register", "--admin-token-file", rig.file("admin", "admin-token"))
    assert "--api-url" in rig.add("prod", launchdarkly, *token).err
    assert rig.parameters() == set()


# -- listing, removing ----------------------------------------------------------------------------


def test_listing_needs_no_secret(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """It works where the credentials are gone."""
    del prod
    rig.aws.client("ssm").delete_parameter(Name=f"{rig.prefix}/credentials/prod")
    (found,) = rig.json("source", "list")["sources"]
    assert (found["source"], found["provider"]) == ("prod", "launchdarkly")
    assert "https://webhooks.example/webhooks/prod" in rig.run("source", "list").out


def test_an_empty_deployment_says_what_to_do(rig: Rig) -> None:
    """Every list of sources does."""
    for command in (("source", "list"), ("status",)):
        assert "storesync source add" in rig.run(*command).out


def test_removing_leaves_a_tombstone(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The flags stay readable, and nothing more is published for this name."""
    prod.set_flag("new-checkout", on=True)
    assert rig.run("source", "remove", "prod").code == 2
    done = rig.json("source", "remove", "prod", "--yes")
    assert done["tombstone"] == rig.state().token
    assert rig.parameters() == set()
    assert rig.record(snapshot_key("prod")) is not None
    assert rig.run("status", "prod").code == 3
    # A function that still has the parameters in hand:
    base = {"provider": "launchdarkly"}
    rig.put_parameter("sources/prod", {**base, "allow_http": True})
    rig.put_parameter("credentials/prod", {**base, "key": prod.sdk_key, "base_url": prod.url})
    assert rig.json("sync", "prod", code=9)["sources"][0]["outcome"] == "pinned"


def test_a_removed_source_can_come_back(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Adding it takes the tombstone away; fencing tokens go on."""
    before = rig.state().published
    rig.json("source", "remove", "prod", "--yes", "--purge")
    assert rig.record(snapshot_key("prod")) is None
    assert json.loads(rig.add("prod", prod, "--json").out)["came_back"]
    rig.json("sync", "prod")
    assert rig.state().published > before


@pytest.mark.parametrize("kind", ["credentials", "webhooks"])
def test_removing_finishes_what_was_interrupted(
    rig: Rig, prod: LaunchDarklySimulator, kind: str
) -> None:
    """What is left without a source is deleted, and nothing is left to find."""
    rig.put_parameter(f"{kind}/left", {"provider": "launchdarkly", "key": prod.sdk_key})
    done = rig.json("source", "remove", "left", "--yes", "--purge")
    assert (done["tombstone"], done["purged"]) == (None, False)
    assert f"{kind}/left" not in rig.parameters()
    assert rig.run("source", "remove", "left", "--yes").code == 3


BROKEN = [
    *("{", "[" * 100_000, "[]", "7", "null", '"text"', '{"provider": ["launchdarkly"]}'),
    '{"provider": "nobody"}',
]
OPTIONS = [
    f'{{"provider": "launchdarkly", "options": {value}}}' for value in ('"x"', "[7]", "null")
]
FIELDS = {
    "sources": ['{"provider": "launchdarkly", "rows": "no", "store": {}}', *OPTIONS],
    "credentials": ['{"provider": "launchdarkly", "key": 7, "base_url": {}}'],
    "webhooks": ['{"provider": "launchdarkly", "secrets": {"a": 1}, "method": []}', *OPTIONS],
}


@pytest.mark.parametrize("kind", ["sources", "credentials", "webhooks"])
def test_no_parameter_ends_a_command_with_a_traceback(
    rig: Rig, prod: LaunchDarklySimulator, kind: str
) -> None:
    """Whatever it holds, the list shows it, others say what is wrong, and --replace repairs it."""
    whole = {path: rig.parameter(path) for path in rig.parameters()}
    for text in (*BROKEN, *FIELDS[kind]):
        for path, value in whole.items():
            rig.put_parameter(path, value)
        rig.put_parameter(f"{kind}/prod", text)
        assert rig.run("source", "list").code == 0
        assert rig.json("source", "list")["sources"][0]["source"] == "prod"
        for command in (("status",), ("source", "add", "prod", "--replace", "--new-secret")):
            assert rig.run(*command).code != 1
        done = rig.add(
            "prod", prod, "--replace", "--rows", "--store=dynamodb", "--method=signature"
        )
        assert done.code == 0, (text, done)
    assert rig.run("source", "remove", "prod", "--yes", "--forget").code == 0


def test_a_source_whose_parameters_are_wrong_can_be_forgotten(
    rig: Rig, prod: LaunchDarklySimulator
) -> None:
    """Where its flags are cannot be told, so the store is left alone."""
    del prod
    rig.put_parameter("credentials/prod", "{")
    done = rig.run("source", "remove", "prod", "--yes")
    assert done.code == 4
    assert "--forget" in done.err
    assert rig.json("source", "remove", "prod", "--yes", "--forget")["tombstone"] is None
    assert rig.parameters() == set()
    assert rig.run("source", "remove", "prod", "--yes", "--forget").code == 3


# -- guidance, and a person at a terminal ---------------------------------------------------------


@pytest.mark.parametrize("name", providers.names())
def test_every_provider_with_webhooks_has_clicks(name: str) -> None:
    """For each way that a webhook can be checked, with the URL and without a gap."""
    for method in providers.get(name).methods:
        webhook = WebhookConfig(
            "prod", name, method, (Secret("s" * 16),), "x-secret", {"environment": "e"}
        )
        steps = clicks("https://webhooks.example/webhooks", webhook)
        assert any("https://webhooks.example/webhooks/prod" in step for step in steps)
        assert any("s" * 16 in step for step in steps)
        assert guide(name).questions


def test_a_person_is_asked(rig: Rig, launchdarkly: LaunchDarklySimulator, tmp_path: Path) -> None:
    """At a terminal nothing has to be an option; the key is not echoed."""
    del tmp_path
    options = ["--base-url", launchdarkly.url, "--allow-http"]
    responses = ["launchdarkly", launchdarkly.sdk_key, "shop", "production"]
    code, shown = terminal(rig, ["source", "add", "prod", *options], responses)
    assert code == 0, shown
    assert launchdarkly.sdk_key not in shown
    assert rig.parameter("webhooks/prod")["options"] == {
        "project": "shop",
        "environment": "production",
    }
    code, shown = terminal(rig, ["source", "remove", "prod"], ["n"])
    assert (code, len(rig.parameters())) == (2, 3)
    code, shown = terminal(rig, ["source", "remove", "prod"], ["y"])
    assert (code, rig.parameters()) == (0, set())


def terminal(rig: Rig, arguments: list[str], responses: list[str]) -> tuple[int, str]:
    """Run a command at a terminal, and response its questions one after the other."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "storesync.cli", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "src"), **rig.environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as child:
        os.close(theirs)
        shown = ""
        left = list(responses)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                shown += os.read(ours, 4096).decode()
            except OSError:  # the other side is gone
                break
            if left and shown.rstrip(" ").endswith(":"):
                os.write(ours, (left.pop(0) + "\n").encode())
                shown += "\n"
        else:
            child.kill()
    os.close(ours)
    return child.returncode, shown
