"""The template, and what `sam build` makes of it."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
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
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


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
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Build]]:
    """Build the same sources twice: in other folders, by users with other settings.

    The second is built from elsewhere, with the template's path: `sam build` works from any folder.
    """
    homes = [
        tmp_path_factory.mktemp("first"),
        tmp_path_factory.mktemp("a-second-one-with-another-name"),
    ]
    copy_sources(homes[0])
    shutil.copytree(homes[0], homes[1], dirs_exist_ok=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def sam_build(home: Path, cwd: Path, umask: int, seed: str) -> None:
        run(
            *(tool(".venv-sam", "sam"), "build", "--parallel", "--no-cached"),
            *("--template-file", os.path.relpath(home / "template.yaml", cwd)),
            *("--build-dir", os.path.relpath(home / "out", cwd)),
            cwd=cwd,
            environment=sam_environment(PYTHONHASHSEED=seed),
            umask=umask,
        )

    with ThreadPoolExecutor() as pool:
        list(pool.map(sam_build, homes, (homes[0], elsewhere), (0o022, 0o077), ("1", "2")))
    yield [Build(home) for home in homes]
    for home in homes:  # 60 MB each, which pytest would keep for three runs
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def build(builds: Sequence[Build]) -> Build:
    """Return one of the builds."""
    return builds[0]
