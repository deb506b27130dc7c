"""Commands for sources: add, list, remove."""

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
from storesync.cli.parameters import AddOptions, SourceParameters, compose
from storesync.cli.webhooks import UNLEASH_EVENTS, manual_steps
from storesync.model import Secret, WebhookConfig
from tests.cli.rig import REPOSITORY, Admin

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from tests.cli.rig import Rig

ENVIRONMENT = ("--webhook-option", "project=shop", "--webhook-option", "environment=production")


def test_add_writes_three_parameters(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """With a new webhook secret; then it requests a sync."""
    done = rig.add("prod", launchdarkly, *ENVIRONMENT)
    assert done.code == 0, done
    assert rig.parameters() == {"sources/prod", "credentials/prod", "webhooks/prod"}
    assert rig.parameter("sources/prod")["provider"] == "launchdarkly"
    assert rig.parameter("credentials/prod")["key"] == launchdarkly.sdk_key
    webhook = rig.parameter("webhooks/prod")
    assert (webhook["method"], len(webhook["secrets"][0])) == ("signature", 43)
    assert [sync_request["source"] for sync_request in rig.requests()] == ["prod"]


def test_add_prints_the_manual_steps(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """With URL, secret and policy."""
    done = rig.add("prod", launchdarkly, *ENVIRONMENT)
    secret = rig.parameter("webhooks/prod")["secrets"][0]
    assert "the key works: 30 flags" in done.out
    assert "URL: https://webhooks.example/webhooks/prod" in done.out
    assert f"secret: {secret}" in done.out
    assert "proj/shop:env/production:segment/*" in done.out


def test_add_appconfig(rig: Rig) -> None:
    """Has no key and no webhook, and notes about gradual deployments."""
    with AppConfigSimulator(
        *rich_flags(5), access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
    ) as server:
        options = [f"--option={name}={text}" for name, text in server.options.items()]
        address = ("--base-url", server.url, "--allow-http")
        done = rig.run("source", "add", "shop", "--provider", "appconfig", *options, *address)
    assert done.code == 0, done
    assert "the provider responds: 5 flags" in done.out
    assert "a gradual deployment is not gradual here" in done.out
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


def test_key_is_never_printed(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """Neither as text nor as JSON."""
    for done in (
        rig.add("prod", launchdarkly),
        rig.add("prod", launchdarkly, "--replace", "--json"),
        rig.run("source", "list", "--json"),
    ):
        assert done.code == 0
        assert launchdarkly.sdk_key not in done.out + done.err


def test_rejected_key_is_not_written(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """Nothing is configured; --no-check skips the check."""
    wrong = ("--key-file", rig.file("wrong", "sdk-wrong-key-000"))
    done = rig.add("prod", launchdarkly, *wrong)
    assert (done.code, rig.parameters()) == (7, set())
    assert ("nothing was written" in done.err, "--replace" in done.err) == (True, False)
    assert rig.add("prod", launchdarkly, *wrong, "--no-check").code == 0


def test_missing_options_without_a_terminal(rig: Rig) -> None:
    """All are named at once."""
    done = rig.run("source", "add", "u", "--provider", "unleash")
    assert done.code == 2
    assert "missing options: --base-url, --key-file" in done.err
    assert rig.run("source", "add", "u").code == 2


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00"])
def test_file_without_a_secret(rig: Rig, content: bytes) -> None:
    """The error names it; it does not count as an option that is left out."""
    file = rig.folder / "key"
    file.write_bytes(content)
    done = rig.run("source", "add", "prod", "--provider", "launchdarkly", "--key-file", str(file))
    assert (done.code, "'--key-file'" in done.err, str(file) in done.err) == (2, True, True)


@pytest.mark.parametrize("name", ["Prod", "-x", "a" * 49])
def test_invalid_name(rig: Rig, name: str) -> None:
    """Rejected before anything is read."""
    done = rig.run("source", "add", "--", name)
    assert done.code == 2
    assert "is not a valid source name" in done.err


def test_every_wrong_field_is_named(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """All at once, and nothing is written."""
    short = ("--secret-file", rig.file("short", "x"))
    done = rig.add("prod", launchdarkly, *short, "--method", "url")
    assert done.code == 4
    assert '"method" must be one of signature' in done.err
    assert "16 characters" in done.err
    assert ("nothing was written" in done.err, "--replace" in done.err) == (True, False)
    assert rig.parameters() == set()


def test_existing_source_needs_replace(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Then options that are left out stay, and so does the webhook's secret."""
    before = rig.parameter("webhooks/prod")
    assert rig.add("prod", prod).code == 2
    done = rig.run("source", "add", "prod", "--replace", "--option", "filter=none", "--no-check")
    assert done.code == 0, done
    assert rig.parameter("webhooks/prod") == before
    source = rig.parameter("sources/prod")
    assert (source["options"], source["allow_http"]) == ({"filter": "none"}, True)


def test_rotated_secret_keeps_the_previous_one(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Until the next rotation."""
    first = rig.parameter("webhooks/prod")["secrets"]
    for _ in range(2):
        assert rig.add("prod", prod, "--replace", "--new-secret").code == 0
    second, third = rig.parameter("webhooks/prod")["secrets"]
    assert len({*first, second, third}) == 3


def test_new_provider_gets_a_new_webhook(
    rig: Rig, prod: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """Options, key and secret of the old one are dropped."""
    del prod
    assert rig.add("prod", unleash, "--replace").code == 0
    webhook = rig.parameter("webhooks/prod")
    assert (webhook["provider"], webhook["method"], len(webhook["secrets"])) == (
        "unleash",
        "authorization",
        1,
    )


def test_new_key_needs_its_provider_and_address(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """In the same command, whatever is stored."""
    renew = ("source", "add", "prod", "--replace", "--key-file", rig.file("new", prod.sdk_key))
    before = rig.parameter("credentials/prod")
    prod.requests.clear()
    for more, missing in (
        ((), "missing options: --provider"),
        (("--base-url", prod.url), "missing options: --provider"),
        (("--provider", "launchdarkly"), "missing options: --base-url"),
    ):
        done = rig.run(*renew, *more)
        assert (done.code, missing in done.err) == (2, True), done
    assert (rig.parameter("credentials/prod"), prod.requests) == (before, [])
    assert rig.run(*renew, "--provider", "launchdarkly", "--base-url", prod.url).code == 0
    assert rig.parameter("credentials/prod") == before


def test_new_address_needs_a_key_and_gets_a_new_secret(rig: Rig, unleash: UnleashSimulator) -> None:
    """The stored key is never sent to another server, nor is the webhook secret."""
    assert rig.add("u", unleash).code == 0
    first = rig.parameter("webhooks/u")["secrets"]
    with UnleashSimulator(*unleash_flags(5), token="*:production.other") as other:
        change = ("source", "add", "u", "--replace", "--base-url", other.url)
        done = rig.run(*change, "--no-check")
        assert (done.code, "missing options: --key-file" in done.err) == (2, True), done
        assert other.requests == []
        assert rig.add("u", other, "--replace").code == 0
        assert {request.headers["authorization"] for request in other.requests} == {other.token}
    secrets = rig.parameter("webhooks/u")["secrets"]
    assert (len(secrets), secrets[1:]) == (2, first)


def test_leftover_parameters_are_not_used(
    rig: Rig, launchdarkly: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """Credentials and webhook without a source, or next to one of another provider."""
    old = {"provider": "launchdarkly", "key": "sdk-old", "base_url": launchdarkly.url}
    webhook = {"provider": "launchdarkly", "secrets": ["old-secret-of-the-webhook"]}
    new = ("--provider", "unleash", "--key-file", rig.file("key", unleash.sdk_key))
    for source in ("", {"provider": "unleash", "allow_http": True}):
        rig.put_parameter("credentials/u", old)
        rig.put_parameter("webhooks/u", webhook)
        if source:
            rig.put_parameter("sources/u", source)
        done = rig.run("source", "add", "u", *new, "--no-check", "--replace")
        assert (done.code, "missing options: --base-url" in done.err) == (2, True), done
        assert rig.add("u", unleash, "--replace").code == 0
        assert rig.parameter("credentials/u")["base_url"] == unleash.url
        assert webhook["secrets"][0] not in rig.parameter("webhooks/u")["secrets"]
    assert launchdarkly.requests == []


def test_new_provider_keeps_the_store() -> None:
    """Readers keep reading there; everything else of the old provider goes."""
    before = SourceParameters(
        json.dumps({"provider": "launchdarkly", "store": "redis", "options": {"filter": "x"}}),
        json.dumps({"provider": "launchdarkly", "key": "sdk-1", "store_url": "rediss://cache"}),
        json.dumps({"provider": "launchdarkly", "secrets": ["s" * 16]}),
    )
    asked = AddOptions(
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


def test_provider_without_key_and_webhook_deletes_both(
    rig: Rig, prod: LaunchDarklySimulator
) -> None:
    """A leftover key would invalidate the source."""
    del prod
    options = ("--option=application=a", "--option=environment=b", "--option=profile=c")
    more = ("--provider", "appconfig", *options, "--no-check")
    assert rig.run("source", "add", "prod", "--replace", *more).code == 0
    assert rig.parameters() == {"sources/prod"}


# -- registering ----------------------------------------------------------------------------------


def test_register_with_unleash(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Selects every event; a second run updates the same webhook."""
    admin = Admin(unleash, monkeypatch)
    token = ("--register", "--admin-token-file", rig.file("admin", "admin-token"))
    done = rig.add("u", unleash, *token, "--webhook-option", "environment=production")
    assert "the webhook was created" in done.out
    addon = admin.webhooks[0]
    assert set(addon["events"]) == set(UNLEASH_EVENTS)
    assert addon["environments"] == ["production"]
    assert addon["parameters"] == {
        "url": "https://webhooks.example/webhooks/u",
        "authorization": rig.parameter("webhooks/u")["secrets"][0],
    }
    assert "was updated" in rig.add("u", unleash, *token, "--replace").out
    assert [(method, path) for method, path, _ in admin.calls if method != "GET"] == [
        ("POST", "/api/admin/addons"),
        ("PUT", "/api/admin/addons/7"),
    ]
    assert len(admin.webhooks) == 1


def test_register_with_launchdarkly(
    rig: Rig, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed, with a policy that includes segments; a second run patches it."""
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
def test_register_fails(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The source is configured and a sync requested; the manual steps are printed."""
    Admin(unleash, monkeypatch).status = status
    token = ("--register", "--admin-token-file", rig.file("admin", "admin-token"))
    done = rig.add("u", unleash, *token)
    assert done.code == 7
    assert f"responded with {status}" in done.err
    assert "by hand" in done.err
    assert rig.parameter("webhooks/u")["secrets"][0] in done.out
    assert [sync_request["source"] for sync_request in rig.requests()] == ["u"]


def test_register_needs_a_token(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """And the API's address; nothing is written before."""
    assert "--admin-token-file" in rig.add("prod", launchdarkly, "--register").err
    token = ("--register", "--admin-token-file", rig.file("admin", "admin-token"))
    assert "--api-url" in rig.add("prod", launchdarkly, *token).err
    assert rig.parameters() == set()


# -- listing, removing ----------------------------------------------------------------------------


def test_list_reads_no_secret(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Works without the credentials parameter."""
    del prod
    rig.aws.client("ssm").delete_parameter(Name=f"{rig.prefix}/credentials/prod")
    (found,) = rig.json("source", "list")["sources"]
    assert (found["source"], found["provider"]) == ("prod", "launchdarkly")
    assert "https://webhooks.example/webhooks/prod" in rig.run("source", "list").out


def test_empty_deployment(rig: Rig) -> None:
    """Every list of sources names the command that adds one."""
    for command in (("source", "list"), ("status",)):
        assert "storesync source add" in rig.run(*command).out


def test_removed_source_publishes_nothing(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Its flags stay readable, and no cached parameters bring it back."""
    prod.set_flag("new-checkout", on=True)
    assert rig.run("source", "remove", "prod").code == 2
    done = rig.json("source", "remove", "prod", "--yes")
    assert done["tombstone"] == rig.state().token
    assert rig.parameters() == set()
    assert rig.record(snapshot_key("prod")) is not None
    assert rig.run("status", "prod").code == 3
    # A function that still has the parameters cached:
    base = {"provider": "launchdarkly"}
    rig.put_parameter("sources/prod", {**base, "allow_http": True})
    rig.put_parameter("credentials/prod", {**base, "key": prod.sdk_key, "base_url": prod.url})
    assert rig.json("sync", "prod", code=9)["sources"][0]["outcome"] == "pinned"


def test_removed_source_is_added_again(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Versions continue to grow."""
    before = rig.state().published
    rig.json("source", "remove", "prod", "--yes", "--purge")
    assert rig.record(snapshot_key("prod")) is None
    assert json.loads(rig.add("prod", prod, "--json").out)["came_back"]
    rig.json("sync", "prod")
    assert rig.state().published > before


@pytest.mark.parametrize("kind", ["credentials", "webhooks"])
def test_remove_deletes_leftover_parameters(
    rig: Rig, prod: LaunchDarklySimulator, kind: str
) -> None:
    """Those of an interrupted command, without a source."""
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
def test_invalid_parameters_are_reported_and_replaced(
    rig: Rig, prod: LaunchDarklySimulator, kind: str
) -> None:
    """No content of a parameter ends a command with a traceback; --replace repairs it."""
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


def test_forget_a_misconfigured_source(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Its store is unknown, and is left alone."""
    del prod
    rig.put_parameter("credentials/prod", "{")
    done = rig.run("source", "remove", "prod", "--yes")
    assert done.code == 4
    assert "--forget" in done.err
    assert rig.json("source", "remove", "prod", "--yes", "--forget")["tombstone"] is None
    assert rig.parameters() == set()
    assert rig.run("source", "remove", "prod", "--yes", "--forget").code == 3


# -- manual steps and prompts ---------------------------------------------------------------------


@pytest.mark.parametrize("name", providers.names())
def test_manual_steps(name: str) -> None:
    """For each method of a provider they contain the URL and the secret."""
    for method in providers.get(name).methods:
        webhook = WebhookConfig(
            "prod", name, method, (Secret("s" * 16),), "x-secret", {"environment": "e"}
        )
        steps = manual_steps("https://webhooks.example/webhooks", webhook)
        assert any("https://webhooks.example/webhooks/prod" in step for step in steps)
        assert any("s" * 16 in step for step in steps)


def test_missing_secrets_are_asked_for(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """At a terminal, without echo; everything else takes options."""
    options = ["--provider", "launchdarkly", "--base-url", launchdarkly.url, "--allow-http"]
    code, shown = terminal(rig, ["source", "add", "prod", *options], [launchdarkly.sdk_key])
    assert code == 0, shown
    assert launchdarkly.sdk_key not in shown
    code, shown = terminal(rig, ["source", "add", "u", "--provider", "unleash"], [])
    assert (code, "missing options: --base-url" in shown) == (2, True)
    code, shown = terminal(rig, ["source", "remove", "prod"], ["n"])
    assert (code, len(rig.parameters())) == (2, 3)
    code, shown = terminal(rig, ["source", "remove", "prod"], ["y"])
    assert (code, rig.parameters()) == (0, set())


def terminal(rig: Rig, arguments: list[str], responses: list[str]) -> tuple[int, str]:
    """Run a command at a terminal, and answer its prompts one after the other."""
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
