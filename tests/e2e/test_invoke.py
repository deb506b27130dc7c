"""``make invoke``: a sample event through both functions, without Docker or AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from local.stand_in import REPOSITORY

pytestmark = pytest.mark.e2e


def test_sample_webhook_is_published() -> None:
    """WebhookFunction queues a sync request, and SyncFunction publishes the source."""
    printed = subprocess.run(
        [sys.executable, "-m", "local.invoke", "events/launchdarkly-flag-updated.json"],
        cwd=REPOSITORY,
        env={"PATH": os.defpath, "PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    done = json.loads(printed)
    assert done["WebhookFunction"]["statusCode"] == 202
    assert done["SyncFunction"] == {"batchItemFailures": []}
    assert list(done["published"]) == ["prod"]
