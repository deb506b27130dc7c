"""The template, and what `sam build` makes of it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.build.tooling import REPOSITORY, Build, copy_sources, run, sam_environment, tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


class _TemplateLoader(yaml.SafeLoader):
    """Reads ``!Sub text`` as ``{"Fn::Sub": text}``, as CloudFormation does."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _intrinsic)


@pytest.fixture(scope="session")
def template() -> Mapping[str, Any]:
    """Return template.yaml with intrinsic functions in their long form."""
    # A safe loader with CloudFormation's tags, which make nothing but dicts.
    loaded = yaml.load((REPOSITORY / "template.yaml").read_bytes(), _TemplateLoader)  # noqa: S506
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Build]]:
    """Build the same sources twice: in other folders, and by users with other settings."""
    homes = [
        tmp_path_factory.mktemp("first"),
        tmp_path_factory.mktemp("a-second-one-with-another-name"),
    ]
    copy_sources(homes[0])
    shutil.copytree(homes[0], homes[1], dirs_exist_ok=True)

    def sam_build(home: Path, umask: int, seed: str) -> None:
        run(
            *(tool(".venv-sam", "sam"), "build", "--parallel", "--no-cached"),
            *("--build-dir", home / "out"),
            cwd=home,
            environment=sam_environment(PYTHONHASHSEED=seed),
            umask=umask,
        )

    with ThreadPoolExecutor() as pool:
        list(pool.map(sam_build, homes, (0o022, 0o077), ("1", "2")))
    yield [Build(home) for home in homes]
    for home in homes:  # 60 MB each, which pytest would keep for three runs
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def build(builds: Sequence[Build]) -> Build:
    """Return one of the builds."""
    return builds[0]
