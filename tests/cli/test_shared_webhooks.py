"""Commands for sources that share a webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from simulators.launchdarkly import LaunchDarklySimulator
from simulators.recorder import Interrupter
from storesync.cli.webhooks import manual_steps
from storesync.model import Secret, WebhookConfig
from tests.cli.rig import ADMIN_TOKEN, Admin

if TYPE_CHECKING:
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Done, Rig

URL = "https://webhooks.example/webhooks"
PRODUCTION = {"project": "shop", "environment": "production"}
STAGING = {"project": "shop", "environment": "staging"}


def options(**values: str) -> list[str]:
    return [f"--webhook-option={name}={text}" for name, text in values.items()]


@pytest.fixture
def prod(rig: Rig, launchdarkly: LaunchDarklySimulator) -> LaunchDarklySimulator:
    """Give the provider of the source ``prod``, which has a webhook of its own."""
    assert rig.add("prod", launchdarkly, *options(**PRODUCTION)).code == 0
    return launchdarkly


@pytest.fixture
def both(rig: Rig, prod: LaunchDarklySimulator) -> LaunchDarklySimulator:
    """Add ``staging`` to the webhook of ``prod``."""
    done = rig.add("staging", prod, "--webhook", "prod", *options(**STAGING))
    assert (done.code, "create or update the webhook for prod, staging:" in done.out) == (
        0,
        True,
    )
    return prod


def change(rig: Rig, name: str, *more: str) -> Done:
    done = rig.run("source", "add", name, "--replace", "--no-check", *more)
    assert done.code == 0, done
    return done


def webhooks(rig: Rig) -> dict[str, Any]:
    """Return the sources of each webhook."""
    paths = sorted(path for path in rig.parameters() if path.startswith("webhooks/"))
    found = {path.removeprefix("webhooks/"): rig.parameter(path) for path in paths}
    return {name: value.get("sources") or {name: value["options"]} for name, value in found.items()}


def test_source_is_added_to_a_webhook(
    rig: Rig, both: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no webhook of its own; the secret stays, and is rotated for all."""
    assert webhooks(rig) == {"prod": {"prod": PRODUCTION, "staging": STAGING}}
    (first,) = rig.parameter("webhooks/prod")["secrets"]
    listed = rig.json("source", "list")["sources"]
    assert {each["source"]: each["webhooks"] for each in listed} == {
        "prod": f"{URL}/prod",
        "staging": f"{URL}/prod",
    }
    change(rig, "staging", "--new-secret", "--webhook-option=environment=test")
    change(rig, "prod", "--option=filter=mobile")
    assert webhooks(rig)["prod"] == {
        "prod": PRODUCTION,
        "staging": STAGING | {"environment": "test"},
    }
    second, previous = rig.parameter("webhooks/prod")["secrets"]
    assert (previous, second != first) == (first, True)
    admin = Admin(both, monkeypatch)
    token = ("--register", "--admin-token-file", rig.file("admin", ADMIN_TOKEN))
    change(rig, "prod", *token, "--api-url", both.url)
    (made,) = admin.webhooks
    assert made["url"] == f"{URL}/prod"
    assert [each["resources"] for each in made["statements"]] == [
        ["proj/shop:env/production:flag/*", "proj/shop:env/test:flag/*"],
        ["proj/shop:env/production:segment/*", "proj/shop:env/test:segment/*"],
        [
            "proj/shop:env/production:aiconfig/*",
            "proj/shop:env/test:aiconfig/*",
            "proj/shop:aiconfig/*",
        ],
    ]


@pytest.mark.parametrize("order", [("prod", "staging"), ("staging", "prod")])
def test_removed_source_leaves_the_webhook_to_the_others(
    rig: Rig, both: LaunchDarklySimulator, order: tuple[str, str]
) -> None:
    """The webhook goes with the last one. A source that is added again finds its webhook."""
    secrets = rig.parameter("webhooks/prod")["secrets"]
    first, last = order
    done = rig.run("source", "remove", first, "--yes")
    assert f"webhook prod stays, for {last}" in done.out
    assert [*webhooks(rig)["prod"]] == [last]
    assert rig.run("source", "remove", first, "--yes").code == 3
    assert rig.add(first, both, "--webhook", "prod").code == 0
    assert [*webhooks(rig)["prod"]] == [last, first]
    assert rig.parameter("webhooks/prod")["secrets"] == secrets
    for name in order:
        assert rig.run("source", "remove", name, "--yes").code == 0
    assert rig.parameters() == set()


@pytest.mark.usefixtures("both")
def test_source_moves_to_another_webhook(rig: Rig, unleash: UnleashSimulator) -> None:
    """Its options move along; the new webhook has its own secret, and the empty one is deleted."""
    old = rig.parameter("webhooks/prod")["secrets"]
    change(rig, "prod", "--webhook", "account")
    assert webhooks(rig) == {"account": {"prod": PRODUCTION}, "prod": {"staging": STAGING}}
    new = rig.parameter("webhooks/account")["secrets"]
    assert (rig.parameter("webhooks/prod")["secrets"], len({*old, *new})) == (old, 2)
    change(rig, "staging", "--webhook", "account")
    assert webhooks(rig) == {"account": {"prod": PRODUCTION, "staging": STAGING}}
    change(rig, "prod", "--webhook", "prod")
    assert webhooks(rig) == {"account": {"staging": STAGING}, "prod": {"prod": PRODUCTION}}
    assert "webhook" not in rig.parameter("sources/prod")
    assert rig.add("u", unleash, "--method", "header", "--header", "X-Secret").code == 0
    change(rig, "u", "--webhook", "team")
    moved = rig.parameter("webhooks/team")
    assert (moved["method"], moved["header"], moved["sources"]) == ("header", "X-Secret", {"u": {}})


@pytest.mark.usefixtures("both")
def test_interrupted_move_is_repeated(rig: Rig) -> None:
    """The move is interrupted after each call to SSM, until the command completes."""
    start = {path: rig.parameter(path) for path in rig.parameters()}
    move = ("source", "add", "staging", "--replace", "--no-check", "--webhook", "account")
    with Interrupter(lambda: rig.aws.port) as gate:
        rig.environ["AWS_ENDPOINT_URL_SSM"] = gate.url
        for calls in range(4, 20):  # by then, it has only read
            for path in rig.parameters() - start.keys():
                rig.aws.client("ssm").delete_parameter(Name=f"{rig.prefix}/{path}")
            for path, value in start.items():
                rig.put_parameter(path, value)
            gate.left = calls
            rig.run(*move)
            was_stopped, gate.left = not gate.left, None
            assert rig.run(*move).code == 0
            assert webhooks(rig) == {"account": {"staging": STAGING}, "prod": {"prod": PRODUCTION}}
            if not was_stopped:
                break
    assert calls > 8


def test_unsuitable_webhook_is_refused(
    rig: Rig, prod: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """Another provider's webhook and an invalid one are refused; nothing is written."""
    rig.put_parameter("webhooks/broken", {**rig.parameter("webhooks/prod"), "secrets": []})
    before = rig.parameters()
    appconfig = ("source", "add", "x", "--provider", "appconfig", "--base-url=https://x.example")
    for done, code, text in (
        (rig.add("x", unleash, "--webhook", "prod"), 2, "webhook 'prod' is for prod, at another"),
        (rig.add("x", prod, "--webhook", "broken"), 4, "at least one"),
        (rig.run(*appconfig, "--webhook", "prod"), 2, "appconfig sends no webhooks"),
    ):
        assert (done.code, text in done.err) == (code, True), done
    assert rig.parameters() == before
    assert webhooks(rig)["prod"] == {"prod": PRODUCTION}


def test_number_of_sources_that_fit(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """With names of 18 characters and two secrets, 45 fit; one more is refused and not written."""
    whole = rig.parameter("webhooks/prod")
    del whole["options"]
    places = [f"shop-{number}-production" for number in range(10, 56)]
    sources = {name: {"project": name, "environment": "production"} for name in places[:44]}
    rig.put_parameter("webhooks/account", {**whole, "sources": sources})
    for name, code, problem in ((places[44], 0, ""), (places[45], 4, "has too many sources")):
        place = options(project=name, environment="production")
        done = rig.add(name, prod, "--webhook", "account", "--new-secret", *place)
        assert (done.code, problem in done.err) == (code, True), done
    assert [*webhooks(rig)["account"]] == places[:45]
    assert f"sources/{places[45]}" not in rig.parameters()


def test_source_at_another_address_leaves_the_webhook(
    rig: Rig, both: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """A webhook's secret is for one account and is given to no other."""
    secrets = rig.parameter("webhooks/prod")["secrets"]
    with LaunchDarklySimulator(both.flags()) as other:
        for server in (other, unleash):
            done = rig.add("prod", server, "--replace")
            assert (done.code, "is for staging, at another" in done.err) == (2, True), done
        assert rig.add("prod", other, "--replace", "--webhook", "eu").code == 0
    assert webhooks(rig) == {"eu": {"prod": PRODUCTION}, "prod": {"staging": STAGING}}
    assert rig.parameter("webhooks/prod")["secrets"] == secrets
    assert not {*rig.parameter("webhooks/eu")["secrets"]} & {*secrets}
    assert rig.add("prod", unleash, "--replace").code == 0
    assert webhooks(rig)["eu"] == {"prod": {}}


@pytest.mark.parametrize(
    ("options", "named"), [({"environment": "QA"}, "Production and QA"), ({}, "of the key")]
)
def test_steps_name_all_environments(options: dict[str, str], named: str) -> None:
    """They are named unless one of the sources takes events of all environments."""
    sources = {"a": {"environment": "Production"}, "b": options}
    webhook = WebhookConfig("w", "split", "url", (Secret("s" * 16),), sources=sources)
    assert any(step.endswith(f"the environment {named}") for step in manual_steps(URL, webhook))


@pytest.mark.usefixtures("both")
def test_doctor_checks_both_ends_of_a_shared_webhook(rig: Rig) -> None:
    """The webhook names the source, and no source that does not exist."""

    def found() -> list[str]:
        done = rig.run("doctor", "staging")
        return [line.strip() for line in done.out.splitlines() if "webhook: " in line]

    assert found() == ["ok       webhook: 'prod' is complete, and covers prod, staging"]
    whole = rig.parameter("webhooks/prod")
    rig.put_parameter("webhooks/prod", {**whole, "sources": {"prod": {}}})
    assert found() == ["problem  webhook: webhook 'prod' does not name this source"]
    rig.put_parameter("webhooks/prod", {**whole, "sources": {"staging": {}, "gone": {}}})
    assert found() == ["problem  webhook: webhook 'prod' names sources that do not exist: gone"]
