"""``make invoke``: a sample event through both functions, without Docker or AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from local.stand_in import REPOSITORY

pytestmark = pytest.mark.e2e


def invoke(event: str) -> Any:
    """Run the module as the target of the Makefile does."""
    done = subprocess.run(
        [sys.executable, "-m", "local.invoke", f"events/{event}"],
        cwd=REPOSITORY,
        env={"PATH": os.defpath, "PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_sample_webhook_is_published() -> None:
    """WebhookFunction queues a sync request, and SyncFunction publishes the source."""
    done = invoke("launchdarkly-flag-updated.json")
    assert done["WebhookFunction"]["statusCode"] == 202
    assert done["SyncFunction"] == {"batchItemFailures": []}
    assert list(done["published"]) == ["prod"]


def test_forged_webhook_publishes_nothing() -> None:
    """WebhookFunction responds with 401, and SyncFunction is not invoked."""
    done = invoke("launchdarkly-forged.json")
    assert done["WebhookFunction"]["statusCode"] == 401
    assert "SyncFunction" not in done
    assert done["published"] == {}
