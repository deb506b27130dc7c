"""The template, and what `sam build` makes of it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from simulators.template import read_template
from tests.build.tooling import copy_sources, run, sam_environment, tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@pytest.fixture(scope="session")
def template() -> Mapping[str, Any]:
    """Return template.yaml with intrinsic functions in their long form."""
    return read_template()


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Copy the sources, and build them into ``out`` as a user elsewhere with a private umask."""
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
    yield home
    shutil.rmtree(home)  # 60 MB, which pytest would keep for three runs
