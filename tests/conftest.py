"""What all tests share: AWS' models, and no skip goes unnoticed where none is expected."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import botocore.session
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Plugins, so that a session has one of each: a fixture that modules import is made once per module.
pytest_plugins = ["rigs", "simulators.aws", "simulators.redis_server"]

for name, examples in {"dose": 60, "whole": 2_000}.items():
    # How fast an example is, is for no test to judge: machines are busy.
    settings.register_profile(
        name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("dose")

ALLOWED = "allowed:"
"""A skip whose reason starts so is expected: data or servers that a machine need not have."""


@pytest.fixture(scope="session", autouse=True)
def _models_are_read_once() -> Iterator[None]:
    """Let all sessions of boto3 share the models of AWS' services, which take 100 ms to read."""
    shared = functools.cache(botocore.session.create_loader)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", shared)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """With FLAGSTORE_NO_SKIP=1 (CI), fail a session that skipped something unexpectedly."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("FLAGSTORE_NO_SKIP") != "1" or not reporter:
        return
    for report in reporter.stats.get("skipped", []):
        if ALLOWED not in str(report.longrepr):
            reporter.write_line(f"unexpectedly skipped: {report.nodeid}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
