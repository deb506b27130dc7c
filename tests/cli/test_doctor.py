"""The doctor command: every check, and the remedy of every problem."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flagstore.keys import Key, snapshot_key

if TYPE_CHECKING:
    import pytest

    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Rig


def levels(found: list[dict[str, str]]) -> dict[str, str]:
    """Return check → level."""
    return {each["check"]: each["level"] for each in found}


def damage(rig: Rig) -> None:
    """Overwrite the snapshot's body and one row."""
    row, snapshot = (
        rig.record(Key("prod:features", "new-checkout")),
        rig.record(snapshot_key("prod")),
    )
    assert row
    assert snapshot
    rig.put({**row, "item": "{}"})
    rig.put({**snapshot, "body": b"damaged"})


def test_healthy_deployment(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Every check passes, and nothing is queued."""
    del prod
    data = rig.json("doctor")
    checks = ("credentials", "clock", "table", "queue", "dead letters")
    assert levels(data["deployment"]) == dict.fromkeys(checks, "ok")
    checks = ("parameters", "provider", "sync", "store", "rows", "webhook")
    assert levels(data["sources"]["prod"]) == dict.fromkeys(checks, "ok")
    assert rig.requests() == []


def test_every_problem_has_a_remedy(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """A revoked key, a damaged store, and dead letters."""
    prod.sdk_key = "revoked"
    damage(rig)
    url = rig.environ["FLAGSTORE_DLQ_URL"]
    rig.aws.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    data = rig.json("doctor", code=10)
    every = [*data["deployment"], *data["sources"]["prod"]]
    problems = [each for each in every if each["level"] == "problem"]
    assert [each["check"] for each in problems] == ["dead letters", "provider", "store"]
    assert all(each["remedy"] for each in problems)
    shown = rig.run("doctor").out
    assert "problem  store: the snapshot record of" in shown
    assert "fix: `storesync sync prod --verify`" in shown
    assert "source add prod --replace" in shown


def test_verify_repairs_what_doctor_finds(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """A plain sync leaves damage to the hourly check; `--verify` repairs it at once."""
    del prod
    damage(rig)
    assert rig.json("sync", "prod")["sources"][0]["outcome"] == "unchanged"
    assert rig.run("doctor").code == 10
    assert rig.json("sync", "prod", "--verify")["sources"][0]["outcome"] == "published"
    assert rig.run("doctor").code == 0


def test_changed_row_is_a_problem(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Every row is compared with the snapshot."""
    del prod
    row = rig.record(Key("prod:features", "new-checkout"))
    assert row
    rig.put({**row, "item": "{}"})
    assert levels(rig.json("doctor", code=10)["sources"]["prod"])["rows"] == "problem"


def test_webhook_at_the_provider(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a token: missing, disabled, incomplete or correct. The token goes to its API only."""
    there: list[dict[str, Any]] = []
    response = unleash.response

    def admin(request: Any) -> tuple[int, bytes, dict[str, str]]:
        if request.path != "/api/admin/addons":
            return response(request)
        if request.method == "POST":
            there.append({"id": 1, **json.loads(request.body)})
        return 200, json.dumps({"addons": there}).encode(), {}

    monkeypatch.setattr(unleash, "response", admin)
    token = ("--admin-token-file", rig.file("admin", "admin-token"))
    api = ("--api-url", unleash.url)
    assert rig.add("u", unleash).code == 0
    rig.json("sync", "u")

    def finding(code: int, *more: str) -> dict[str, str]:
        found = rig.json("doctor", *token, *more, code=code)["sources"]["u"]
        (each,) = [each for each in found if each["check"] == "webhook"]
        return each

    assert finding(10)["remedy"] == f"add --api-url {unleash.url}"
    assert finding(0, "--api-url", "http://127.0.0.1:1")["level"] == "skipped"
    assert not [each for each in unleash.requests if "admin-token" in str(each.headers)]
    assert finding(10, *api)["message"] == "unleash has no webhook for this deployment"
    assert rig.add("u", unleash, "--replace", "--register", *token).code == 0
    assert finding(0, *api)["level"] == "ok"
    there[0]["events"].remove("segment-updated")
    assert finding(10, *api)["message"] == "does not cover segment-updated"
    there[0]["enabled"] = False
    assert finding(10, *api)["message"] == "disabled at the provider"
