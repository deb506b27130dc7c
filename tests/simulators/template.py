"""template.yaml as data."""

from __future__ import annotations

from typing import Any

import yaml

from local.stand_in import REPOSITORY


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


def read_template() -> dict[str, Any]:
    """Return template.yaml with intrinsic functions in their long form."""
    # A safe loader with CloudFormation's tags, which make nothing but dicts.
    loaded = yaml.load((REPOSITORY / "template.yaml").read_bytes(), _TemplateLoader)  # noqa: S506
    assert isinstance(loaded, dict)
    return loaded
