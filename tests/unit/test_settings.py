"""The functions' settings: read from the environment, with all problems at once."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storesync.errors import ConfigurationError
from storesync.settings import SyncSettings, WebhookSettings

WEBHOOK = {
    "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
    "FLAGSTORE_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/requests",
}
SYNC = {**WEBHOOK, "FLAGSTORE_TABLE": "flags"}


def test_the_webhook_function_needs_two_variables() -> None:
    """The function that faces the internet knows parameters and queue, and no table."""
    settings = WebhookSettings.from_env({**SYNC, "SOMETHING_ELSE": "x"})
    assert settings == WebhookSettings("/flagstore", WEBHOOK["FLAGSTORE_QUEUE_URL"])


def test_the_sync_function_has_defaults() -> None:
    """What the template leaves out is 30 s for the follow-up and one snapshot record."""
    settings = SyncSettings.from_env(SYNC)
    assert (settings.table, settings.followup_s, settings.snapshot_replicas) == ("flags", 30, 1)


def test_the_sync_function_takes_numbers() -> None:
    """Numbers are read as written, up to their bounds."""
    given = {"FLAGSTORE_FOLLOWUP_SYNC_SECONDS": "900", "FLAGSTORE_SNAPSHOT_REPLICAS": "5"}
    settings = SyncSettings.from_env({**SYNC, **given})
    assert (settings.followup_s, settings.snapshot_replicas) == (900, 5)
    assert SyncSettings.from_env({**SYNC, "FLAGSTORE_FOLLOWUP_SYNC_SECONDS": "0"}).followup_s == 0


def test_a_run_by_hand_needs_no_queue() -> None:
    """Without a queue nothing is repeated, and nothing is missing."""
    settings = SyncSettings.from_env({**SYNC, "FLAGSTORE_QUEUE_URL": ""})
    assert settings.queue_url == ""


def test_all_problems_are_said_at_once() -> None:
    """Whoever deploys does not fix one variable after the other."""
    wrong = {"FLAGSTORE_FOLLOWUP_SYNC_SECONDS": "901", "FLAGSTORE_SNAPSHOT_REPLICAS": "none"}
    with pytest.raises(ConfigurationError) as caught:
        SyncSettings.from_env(wrong)
    assert str(caught.value).split("; ") == [
        "FLAGSTORE_PARAMETER_PREFIX is not set",
        "FLAGSTORE_TABLE is not set",
        "FLAGSTORE_FOLLOWUP_SYNC_SECONDS must be a whole number from 0 to 900",
        "FLAGSTORE_SNAPSHOT_REPLICAS must be a whole number from 1 to 5",
    ]


@pytest.mark.parametrize("prefix", ["flagstore", "/flagstore/", "/", " /flagstore"])
def test_an_odd_prefix_is_refused(prefix: str) -> None:
    """A prefix that no parameter could be found under is a clear error."""
    with pytest.raises(ConfigurationError, match="must start with '/' and not end with it"):
        WebhookSettings.from_env({**WEBHOOK, "FLAGSTORE_PARAMETER_PREFIX": prefix})


@given(st.text(max_size=30))
def test_a_number_is_within_bounds_or_an_error(text: str) -> None:
    """No text makes another error, or a number outside of what is allowed."""
    environ = {**SYNC, "FLAGSTORE_FOLLOWUP_SYNC_SECONDS": text}
    with contextlib.suppress(ConfigurationError):
        assert 0 <= SyncSettings.from_env(environ).followup_s <= 900
