"""Templates as data."""

from __future__ import annotations

from typing import Any

import yaml

from local.stand_in import REPOSITORY


class _TemplateLoader(yaml.SafeLoader):
    """Reads ``!Sub text`` as ``{"Fn::Sub": text}``, as CloudFormation does."""


def _intrinsic(cache: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = cache.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = cache.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = cache.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _intrinsic)


class _TextLoader(yaml.SafeLoader):
    """Reads ``!Sub text`` as its text."""


_TextLoader.add_multi_constructor("!", lambda _cache, _suffix, node: node.value)


def as_text(template: str) -> Any:
    """Return a template with the text of each intrinsic function in its place."""
    return yaml.load(template, _TextLoader)  # noqa: S506 - a safe one


def read_template() -> dict[str, Any]:
    """Return template.yaml with intrinsic functions in their long form."""
    # A safe loader with CloudFormation's tags, which make nothing but dicts.
    loaded = yaml.load((REPOSITORY / "template.yaml").read_bytes(), _TemplateLoader)  # noqa: S506
    assert isinstance(loaded, dict)
    return loaded
