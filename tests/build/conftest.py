"""The template, and what `sam build` makes of it."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from simulators.template import read_template
from tests.build.tooling import (
    REPOSITORY,
    Build,
    copy_sources,
    run,
    sam_environment,
    tool,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


TRANSFORM = """
import json, sys, yaml
from samcli.commands._utils.template import get_template_data
from samcli.lib.translate.sam_template_validator import SamTemplateValidator
from samtranslator.translator.managed_policy_translator import ManagedPolicyLoader
template = get_template_data(sys.argv[1])
sam = SamTemplateValidator(template, ManagedPolicyLoader(None), region="eu-west-1")
print(json.dumps(yaml.safe_load(sam.get_translated_template_if_valid()), default=str))
"""


@pytest.fixture(scope="session")
def template() -> Mapping[str, Any]:
    """Return template.yaml with intrinsic functions in their long form."""
    return read_template()


@pytest.fixture(scope="session")
def transformed() -> Mapping[str, Any]:
    """Return the resources that SAM's own transform makes of template.yaml, by logical id."""
    python, path = tool(".venv-sam", "python"), REPOSITORY / "template.yaml"
    done = run(python, "-c", TRANSFORM, path, environment=sam_environment())
    resources: dict[str, Any] = json.loads(done.stdout)["Resources"]
    return resources


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Build from another folder, by the template's path, as a user with a private umask."""
    home, elsewhere = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("elsewhere")
    copy_sources(home)
    run(
        *(tool(".venv-sam", "sam"), "build", "--parallel", "--no-cached"),
        *("--template-file", os.path.relpath(home / "template.yaml", elsewhere)),
        *("--build-dir", os.path.relpath(home / "out", elsewhere)),
        cwd=elsewhere,
        environment=sam_environment(),
        umask=0o077,
    )
    yield Build(home)
    shutil.rmtree(home)  # 60 MB, which pytest would keep for three runs
