"""What a file of flags may hold: what SDKs get, and what people keep for local runs. Pure.

==============  ===================================================================================
ours            ``{"provider": "split", "meta": {…}, "sections": {"flags": {…}, …}}``, as of
                :meth:`Snapshot.export`
LaunchDarkly    ``{"flags": {key: {…}}, "segments": {key: {…}}}``; also a data file of its SDKs,
                without ``version``, and with values alone: ``{"flagValues": {"new-ui": true}}``
Split           ``{"ff": {"d": […]}, "rbs": {"d": […]}}``, or ``{"splits": […]}``, with segments
                beside it: ``{"segments": {"beta": ["ada", "bob"]}}``; also the YAML and ``.split``
                files of the SDKs' localhost mode
Unleash         ``{"features": […], "segments": […]}``
AppConfig       ``{"version": "1", "flags": {…}, "values": {…}}``, of which either may be missing;
                also what its agent serves, and reads in local development:
                ``{"new-ui": {"enabled": true, "color": "blue"}}``
==============  ===================================================================================
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from flagstore.codec import dumps
from flagstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Sections = dict[str, dict[str, Any]]

NOT_JSON = "what JSON cannot express"
"""Stands in for an item that cannot be stored. To every engine it is a flag that is malformed."""
FEATURE_FLAGS = {"format": "feature-flags"}

_SPLIT_LINE = re.compile(r"([\w-]+)\s+([\w-]+)")
_SPLIT_RULE_BASED: dict[str, Any] = {
    "trafficTypeName": "user",
    "status": "ACTIVE",
    "changeNumber": 0,
    "conditions": [],
}
_SPLIT_FLAG: dict[str, Any] = {
    **_SPLIT_RULE_BASED,
    "trafficAllocation": 100,
    "trafficAllocationSeed": 123_456,
    "seed": 321_654,
    "killed": False,
    "defaultTreatment": "off",
    "algo": 2,
}
"""What Split's SDK fills in where a local file leaves it out."""


class Document(NamedTuple):
    """One flag set as it is in a file."""

    provider: str
    sections: Sections
    meta: dict[str, Any]


def parse(path: str, text: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse the text of a file, by the end of its name: YAML, ``.split``, or else JSON.

    Raises:
        ConfigurationError: it is YAML, and there is no PyYAML.
        ValueError: it is not what it should be.
    """
    name = path.lower()
    if name.endswith((".yaml", ".yml")):
        return _yaml(path, text)
    if name.endswith(".split"):
        return _split_lines(text)
    return json.loads(text, parse_constant=_refuse)


def document(content: Any) -> Document:  # noqa: ANN401 - any JSON
    """Return a document taken apart, by its shape.

    Raises:
        ValueError: it is nobody's; or KeyError, TypeError where something in it is missing.
    """
    if isinstance(content, list) and content:
        content = {"ff": {"d": _split_yaml(content)}}
    if isinstance(content.get("provider"), str) and "sections" in content:
        return Document(content["provider"], dict(content["sections"]), content.get("meta") or {})
    if _is_the_agents(content):
        content = {"version": "1", "values": content}
    if content.get("version") == "1":
        return _appconfig(content)
    for names, read in _BY_NAMES:
        if names & content.keys():
            return read(content)
    message = f"it has {', '.join(sorted(content)[:8]) or 'nothing'}"
    raise ValueError(message)


def storable(sections: Mapping[str, Mapping[str, Any]]) -> Sections:
    """Return the sections with :data:`NOT_JSON` in place of each item that JSON cannot express."""
    return {
        name: {key: item if _is_storable(item) else NOT_JSON for key, item in items.items()}
        for name, items in sections.items()
    }


def _is_storable(item: Any) -> bool:  # noqa: ANN401 - what a file held
    try:
        dumps(item)
    except (ValueError, TypeError):
        return False
    return True


def _refuse(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _yaml(path: str, text: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse YAML into what JSON has: keys are text (YAML takes ``on`` for true), dates as well."""
    try:
        import yaml  # noqa: PLC0415 - rarely needed, and may not be installed
    except ImportError:
        message = f"{path} is YAML: install PyYAML to read it, or write it as JSON"
        raise ConfigurationError(message) from None

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012 - as its base has it
            first: [form for form in forms if not form[0].endswith(":timestamp")]
            for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ANN401, FBT001, FBT002 - as its base
            self.flatten_mapping(node)
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    key.tag = "tag:yaml.org,2002:str"
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - derived from the safe one
    except yaml.YAMLError as error:
        message = f"it is not YAML: {error}"
        raise ValueError(message) from None


# -- AppConfig and Unleash -----------------------------------------------------------------------


def _is_the_agents(content: Mapping[str, Any]) -> bool:
    """Return whether all that it has are flags as AppConfig's agent serves them."""
    if not content or "flagValues" in content:  # LaunchDarkly's: one may be called "enabled"
        return False
    return all(
        isinstance(flag, dict) and isinstance(flag.get("enabled"), bool)
        for flag in content.values()
    )


def _appconfig(content: Mapping[str, Any]) -> Document:
    flags, definitions = content.get("values") or {}, content.get("flags") or {}
    sections = {"flags": dict(flags), "definitions": dict(definitions)}
    return Document("appconfig", sections, FEATURE_FLAGS)


def _unleash(content: Mapping[str, Any]) -> Document:
    meta: dict[str, Any] = {name: content[name] for name in ("version", "query") if name in content}
    flags = {feature["name"]: feature for feature in content["features"]}
    segments = {str(segment["id"]): segment for segment in content.get("segments") or ()}
    return Document("unleash", {"flags": flags, "segments": segments}, meta)


# -- LaunchDarkly --------------------------------------------------------------------------------


def _launchdarkly(content: Mapping[str, Any]) -> Document:
    values = content.get("flagValues") or {}
    flags = {key: _always(key, value) for key, value in values.items()}
    flags.update(_completed(content.get("flags") or {}))
    segments = _completed(content.get("segments") or {})
    return Document("launchdarkly", {"flags": flags, "segments": segments}, {})


def _completed(items: Mapping[str, Any]) -> dict[str, Any]:
    """Return flags or segments with the fields that data files leave out."""
    return {
        key: {"key": key, "version": 1, **item} if isinstance(item, dict) else item
        for key, item in items.items()
    }


def _always(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a flag that has one value for everybody."""
    return {
        "key": key,
        "version": 1,
        "on": True,
        "variations": [value],
        "fallthrough": {"variation": 0},
    }


# -- Split ---------------------------------------------------------------------------------------


def _split(content: Mapping[str, Any]) -> Document:
    flags = content["splits"] if "splits" in content else (content["ff"] or {}).get("d")
    rule_based = (content.get("rbs") or {}).get("d")
    segments = (content.get("segments") or {}).items()
    sections = {
        "flags": _active(flags, _SPLIT_FLAG),
        "rule_based_segments": _active(rule_based, _SPLIT_RULE_BASED),
        "segments": {name: {"name": name, "keys": sorted(set(keys))} for name, keys in segments},
    }
    return Document("split", sections, {})


def _active(items: Iterable[Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return definitions by name, completed; as in the SDK, those without a name are left out."""
    found = {}
    for item in items or ():
        made = {**fields, **item}
        if "seed" in item and "algo" not in item:
            del made["algo"]  # Split's own flag, of the time before there were two algorithms
        if str(made.get("name") or "").strip() and made["status"] == "ACTIVE":
            found[made["name"]] = made
    return found


def _split_lines(text: str) -> dict[str, Any]:
    """Return what a ``.split`` file says: a flag and its treatment a line, all else is ignored."""
    lines = map(_SPLIT_LINE.fullmatch, map(str.strip, text.splitlines()))
    flags = [
        _local(line[1]) | {"conditions": [_condition(line[2], None)]}
        for line in lines
        if line is not None
    ]
    return {"ff": {"d": flags}}


def _split_yaml(statements: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the flags of a YAML file: statements with keys go before those for everybody."""
    flags: dict[str, dict[str, Any]] = {}
    pairs = [(name, said) for statement in statements for name, said in statement.items()]
    for name, said in sorted(pairs, key=lambda pair: "keys" not in pair[1]):
        conditions = flags.setdefault(name, _local(name))["conditions"]
        conditions.append(_condition(_treatment(said), said.get("keys")))
    for name, said in pairs:
        config = said.get("config")
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            flags[name]["configurations"][_treatment(said)] = text
    return list(flags.values())


def _treatment(said: Mapping[str, Any]) -> str:
    treatment = said["treatment"]
    if isinstance(treatment, bool):  # which YAML takes on and off for
        return "on" if treatment else "off"
    return str(treatment)


def _local(name: str) -> dict[str, Any]:
    """Return a flag that has no treatment for those whom none of its conditions is for."""
    return {"name": name, "defaultTreatment": "control", "conditions": [], "configurations": {}}


def _condition(treatment: str, keys: Any) -> dict[str, Any]:  # noqa: ANN401 - YAML
    """Return a condition for some keys, or for everybody if there are none."""
    matcher: dict[str, Any] = {"matcherType": "ALL_KEYS", "negate": False}
    if keys is not None:
        listed = [str(key) for key in (keys if isinstance(keys, list) else [keys])]
        matcher |= {"matcherType": "WHITELIST", "whitelistMatcherData": {"whitelist": listed}}
    return {
        "conditionType": "ROLLOUT" if keys is None else "WHITELIST",
        "label": "default rule" if keys is None else "whitelisted",
        "matcherGroup": {"combiner": "AND", "matchers": [matcher]},
        "partitions": [{"treatment": treatment, "size": 100}],
    }


_BY_NAMES: tuple[tuple[set[str], Callable[[Mapping[str, Any]], Document]], ...] = (
    ({"features"}, _unleash),
    ({"ff", "splits"}, _split),
    ({"values"}, _appconfig),
    ({"flags", "flagValues"}, _launchdarkly),
)
"""Names of which a provider's document has at least one, and what reads it; the first counts."""
