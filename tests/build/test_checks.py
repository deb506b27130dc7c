"""Checks of the template by AWS tools, and of the pinned requirements."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.build.tooling import REPOSITORY, run, sam_environment, tool

if TYPE_CHECKING:
    from collections.abc import Mapping

PINNED = [
    "requirements-dev.txt",
    "src/requirements.txt",
    *(
        f"tools/requirements/{name}.txt"
        for name in ("aws", "checkov", "lambda", "sam", "sdks", "uv")
    ),
]
VALIDATE = """
import json, sys
from openapi_spec_validator import OpenAPIV30SpecValidator
problems = OpenAPIV30SpecValidator(json.loads(sys.argv[1])).iter_errors()
sys.exit("\\n".join(f"{problem.json_path}: {problem.message}" for problem in problems) or 0)
"""
LINE = re.compile(
    r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[\w.+]+( ; .+)? \\|    --hash=sha256:\w{64}( \\)?"
)


def resolved(value: Any) -> Any:
    """Return a value with a string for each intrinsic function, as CloudFormation passes it on."""
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::")):
            return "resolved"
        return {key: resolved(item) for key, item in value.items()}
    return [resolved(item) for item in value] if isinstance(value, list) else value


@pytest.mark.build
def test_template_is_valid() -> None:
    """`sam validate --lint` passes without a warning."""
    done = run(tool(".venv-sam", "sam"), "validate", "--lint", environment=sam_environment())
    assert "is a valid SAM Template" in done.stdout


@pytest.mark.build
def test_checkov_passes() -> None:
    """Every check passes, or is skipped in the template with its reason."""
    done = run(
        *(tool(".venv-checkov", "checkov"), "--file", "template.yaml"),
        *("--framework", "cloudformation", "--skip-download", "--compact", "--quiet"),
    )
    counts = re.search(r"Passed checks: (\d+), Failed checks: 0,", done.stdout)
    assert counts is not None
    assert int(counts[1]) > 0


@pytest.mark.build
def test_api_is_valid_openapi(transformed: Mapping[str, Any]) -> None:
    """API Gateway imports it without warnings."""
    api = transformed["WebhookApi"]["Properties"]
    assert "FailOnWarnings" not in api
    body = resolved(api["Body"])
    assert set(body["paths"]) == {"/webhooks/{source}", "/webhooks/{source}/{token}"}
    run(tool(".venv-checkov", "python"), "-c", VALIDATE, json.dumps(body))


@pytest.mark.parametrize("name", PINNED)
def test_packages_are_pinned_by_hash(name: str) -> None:
    """One version and its hashes each; no index or folder is named."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_tests_use_the_deployed_versions() -> None:
    """The tests' environment has the packages of the functions."""
    deployed, tested = (
        set(
            re.findall(
                r"^(\S+==\S+)", (REPOSITORY / name).read_text(encoding="utf-8"), re.MULTILINE
            )
        )
        for name in ("src/requirements.txt", "requirements-dev.txt")
    )
    assert deployed <= tested
