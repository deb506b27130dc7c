"""Commands that change nothing: status, get, diff, doctor; and wrong arguments of any command."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from flagstore import keys
from flagstore.keys import Key, SnapshotRecord, snapshot_key, state_key

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from tests.cli.rig import Rig

ADD = ("source", "add")

pytestmark = pytest.mark.usefixtures("prod")


def test_status_of_healthy_and_broken_sources(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """A source with wrong parameters hides no other; dead letters need attention."""
    data = rig.json("status", "--check")
    (found,) = data["sources"]
    assert found["counts"] == {"flags": 31, "segments": len(prod.newest()["segments"])}
    assert found["published"] == rig.state().published
    assert (found["state"], found["problems"]) == ("ok", [])
    assert 0 <= found["age_s"] < 60
    assert data["queue"] == data["dlq"] == {"due": 0, "delayed": 0, "in_flight": 0}
    rig.put_parameter("sources/broken", {"provider": "launchdarkly"})
    rig.leave_dead_letter()
    data = rig.json("status", "--check", code=10)
    assert data["dlq"]["due"] == 1
    assert [each["source"] for each in data["sources"]] == ["broken", "prod"]
    shown = rig.run("status").out
    fix = "broken: fix: correct that parameter in SSM (docs/configure.md#sources)"
    for text in ("unreadable", "credentials/broken: is missing", fix, "failed every time"):
        assert text in shown


def test_status_problems(rig: Rig) -> None:
    """Each is a sentence with its remedy; `--check` turns it into exit code 10."""
    healthy = rig.state()._asdict()
    changes: list[tuple[dict[str, Any], str, str]] = [
        ({"pinned": 4_000_000_000_000}, "pinned", "kill switches"),
        ({"pinned": 253_402_300_799_000}, "pinned", "until it is unpinned"),
        ({"refused": "ab" * 32}, "refused", "storesync allow"),
        ({"error": '[1795000000000, "ProviderUnavailable", "down"]'}, "failing", "down"),
        ({"checked_at": 1}, "ok", "the schedule is enabled"),
        ({"rows_version": 1}, "ok", "SDKs that read them are behind"),
        ({"published": 0, "checked_at": 0}, "empty", "nothing is published"),
    ]
    for change, state, text in changes:
        rig.change(state_key("prod"), **{**healthy, **change})
        found = rig.json("status", "--check", code=10)["sources"][0]
        assert found["state"] == state
        assert text in " ".join(found["problems"])


def test_check_is_overdue_after_three_intervals(rig: Rig) -> None:
    """As in FreshnessAlarm; the interval is the stack's ReconcileMinutes, or its default."""
    checked_at = int(1000 * time.time()) - 20 * 60_000
    rig.change(state_key("prod"), **{**rig.state()._asdict(), "checked_at": checked_at})
    assert rig.run("status", "--check").code == 10
    slower = {"FLAGSTORE_RECONCILE_MINUTES": "10"}
    assert rig.run("status", "--check", env=slower).code == 0
    assert rig.run("doctor", env=slower).code == 0


def test_get_evaluates_a_context(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Shows the provider's JSON and its version, and the reader's evaluation and reason."""
    prod.set_flag("new-checkout", on=True)
    rig.json("sync")
    arguments = ("get", "prod", "new-checkout", "--context")
    data = rig.json(*arguments, '{"key": "ada"}')
    assert data["item"] == prod.flags()["new-checkout"]
    assert data["origin"]["token"] == rig.state().published
    detail = data["detail"]
    assert (detail["value"], detail["variant"], detail["reason"]) == (True, 0, "FALLTHROUGH")
    shown = rig.run(*arguments, '{"key": "ada"}').out
    assert "value: true, enabled: true, variant: 0\nreason: FALLTHROUGH" in shown
    key = next(iter(prod.newest()["segments"]))
    assert rig.json("get", "prod", key, "--section", "segments")["item"]["key"] == key


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("get", "prod", "nope"), 3, "no flag 'nope'"),
        (("get", "prod", "beta", "--section=segment"), 3, "fix: there are flags, segments"),
        (("get", "nope", "a"), 3, "the sources are prod"),
        (("get", "prod", "new-checkout", "--context", "ada"), 2, "write it as JSON"),
        (("get", "prod", "beta", "--section=segments", "--context={}"), 2, "evaluates flags"),
        (("diff", "prod", "--from", "5", "--to", "6"), 3, "does not hold version 5"),
        (("rollback", "prod", "--to", "5", "--yes"), 3, "`storesync history prod`"),
        (("rollback", "prod", "--to", "5", "--for", "tomorrow"), 2, "or forever"),
        (("rollback", "prod", "--to", "5", "--for", "0h"), 2, "or forever"),
        (("rollback", "prod"), 2, "--to"),
        (("allow", "prod", "--yes"), 9, "no refused flag set"),
        (("sync", "prod", "--verify", "--remote"), 2, "cannot be combined"),
        (("sync", "prod", "--remote"), 4, "FLAGSTORE_SYNC_FUNCTION"),
        ((*ADD, "u"), 2, "missing options: --provider"),
        ((*ADD, "u", "--provider", "unleash"), 2, "missing options: --base-url, --key-file"),
        (
            (*ADD, "u", "--provider", "unleash", "--key-file", "/dev/null"),
            2,
            "/dev/null is missing",
        ),
        ((*ADD, "--", "Prod"), 2, "is not a valid source name"),
    ],
)
def test_wrong_arguments(rig: Rig, arguments: tuple[str, ...], code: int, text: str) -> None:
    """The exit code is the kind of error, and the message has the remedy."""
    done = rig.run(*arguments)
    assert (done.code, text in done.err) == (code, True), done


def test_diff(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """With the provider, or of two versions, which does not call the provider."""
    assert rig.run("diff", "prod", "--exit-code").code == 0
    first = str(rig.state().published)
    prod.set_flag("new-checkout", on=True)
    prod.set_flag("another")
    data = rig.json("diff", "prod", "--exit-code", code=10)
    assert data["added"] == ["flags/another"]
    (both,) = data["changed"].values()
    assert (both["before"]["on"], both["after"]["on"]) == (False, True)
    rig.json("sync")
    second = str(rig.state().published)
    prod.requests.clear()
    found = rig.json("diff", "prod", "--from", first)
    assert (found["added"], found["changed"]) == (data["added"], data["changed"])
    assert rig.json("diff", "prod", "--from", second, "--to", first)["removed"] == data["added"]
    assert prod.requests == []


def problems(rig: Rig) -> list[dict[str, str]]:
    data = rig.json("doctor", code=10)
    found = [*data["deployment"], *data["sources"]["prod"]]
    return [each for each in found if each["level"] == "problem"]


def test_doctor_finds_problems_and_remedies(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """A revoked key, a damaged store, dead letters, and a webhook of another provider."""
    assert rig.run("doctor").code == 0
    assert rig.requests() == []
    prod.sdk_key = "revoked"
    rig.change(snapshot_key("prod"), body=b"damaged")
    rig.leave_dead_letter()
    webhook = rig.parameter("webhooks/prod")
    rig.put_parameter("webhooks/prod", {**webhook, "provider": "unleash", "method": ""})
    found = problems(rig)
    assert [each["check"] for each in found] == ["dead letters", "provider", "store", "webhook"]
    assert "source add prod --replace" in found[1]["remedy"]
    assert "storesync sync prod --verify" in found[2]["remedy"]
    shown = rig.run("doctor").out
    assert all(f"fix: {each['remedy']}" in shown for each in found)


def test_dead_letters_of_usage(rig: Rig) -> None:
    """Those of a stack with UsageFunction need attention, too."""
    url = rig.aws.client("sqs").create_queue(QueueName=f"usage-{uuid4().hex}")["QueueUrl"]
    rig.environ["FLAGSTORE_USAGE_DLQ_URL"] = url
    assert rig.run("status", "--check").code == rig.run("doctor").code == 0
    rig.aws.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    done = rig.run("status", "--check")
    assert (done.code, "usage dlq: 1 due" in done.out) == (10, True)
    (found,) = problems(rig)
    assert found["check"] == "usage's dead letters"
    rig.aws.client("sqs").delete_queue(QueueUrl=url)


def test_doctor_prints_the_size_of_a_set_in_chunks(
    rig: Rig, prod: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what capacity depends on (docs/cost-and-capacity.md)."""

    def size() -> str:
        (found,) = (line for line in rig.run("doctor").out.splitlines() if "digests" in line)
        return found

    before = size()
    assert re.search(r"\([\d,]{4,} bytes\)$", before)
    monkeypatch.setattr(keys, "INLINE_BYTES", 0)
    prod.set_flag("new-checkout", on=not prod.flags()["new-checkout"]["on"])
    rig.json("sync")
    assert SnapshotRecord.from_record(rig.record(snapshot_key("prod")) or {}).chunks
    assert re.search(r"\([\d,]{4,} bytes\)$", size())


def test_doctor_names_a_missing_webhook(rig: Rig) -> None:
    """Its parameter was deleted: nothing can be said of what is in it."""
    rig.aws.client("ssm").delete_parameter(Name=f"{rig.prefix}/webhooks/prod")
    (found,) = problems(rig)
    assert (found["check"], found["message"]) == ("webhook", "its parameter is missing")
    assert "storesync source add prod --replace" in found["remedy"]


def test_doctor_compares_whole_replicas(rig: Rig) -> None:
    """One that has the right token but another body would be served to new processes."""
    three = {"FLAGSTORE_SNAPSHOT_REPLICAS": "3"}
    assert rig.run("sync", env=three).code == 0
    rig.change(snapshot_key("prod", 2), body=b"damaged")
    rig.change(Key("prod:features", "new-checkout"), item="{}")
    for env in (three, {}):
        done = rig.run("doctor", env=env)
        assert (done.code, "replica 2 differs from the snapshot record" in done.out) == (10, True)
        assert "1 rows differ" in done.out
    assert rig.run("sync", "--verify", env=three).code == 0
    assert rig.run("doctor", env=three).code == 0


def test_verify_repairs_what_doctor_finds(rig: Rig) -> None:
    """A plain sync leaves damage to the hourly check; `--verify` repairs it at once."""
    rig.change(Key("prod:features", "new-checkout"), item="{}")
    assert [each["check"] for each in problems(rig)] == ["rows"]
    rig.change(snapshot_key("prod"), body=b"damaged")
    assert [each["check"] for each in problems(rig)] == ["store"]
    assert rig.json("sync", "prod")["sources"][0]["outcome"] == "unchanged"
    assert problems(rig)
    assert rig.json("sync", "prod", "--verify")["sources"][0]["outcome"] == "published"
    assert rig.run("doctor").code == 0
