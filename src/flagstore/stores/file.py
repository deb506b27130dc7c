"""Read flags and their rules from a file: for tests, local runs and bootstrapping.

A file holds a document that SDKs receive, or one written for local runs: docs/read.md, "Files".
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from flagstore.codec import Body
from flagstore.encode import encode
from flagstore.errors import ConfigurationError, CorruptSnapshotError, StoreUnavailableError
from flagstore.keys import (
    Key,
    SnapshotRecord,
    SourceState,
    chunk_key,
    chunks_prefix,
    snapshot_key,
    state_key,
)
from flagstore.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flagstore.codec import Json
    from flagstore.keys import Record

    Sections = dict[str, dict[str, Any]]

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
"""Split's SDK's defaults for fields that a local file omits."""


class FileReader:
    """A file as a store, read again when it changes: :class:`flagstore.stores.ReaderStore`."""

    throttled = 0

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._snapshot_record: SnapshotRecord | None = None
        self._chunks: dict[str, bytes] = {}
        """The large segments."""

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return the source state, the snapshot record, or a chunk of a large segment."""
        del consistent, deadline
        snapshot_record = self._current()
        source = key.namespace.partition(":")[0]
        if key == state_key(source):
            now = int(self._clock() * 1000)
            token = snapshot_record.token
            state = SourceState(token, token, token, snapshot_record.digest, checked_at=now)
            return {**key._asdict(), **state._asdict()}
        if key == snapshot_key(source):
            return snapshot_record.to_record(key)
        chunk = self._chunks.get(key.key)
        return {**key._asdict(), "body": chunk} if chunk else None

    def prepare(self) -> None:
        """Do nothing: a file needs no connection."""

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _current(self) -> SnapshotRecord:
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - pathlib costs a cold start 6 ms
            seen = (stat.st_mtime_ns, stat.st_size)
            if self._snapshot_record is None or seen != self._seen:
                before = self._snapshot_record.token if self._snapshot_record else 0
                # It grows even if the file's time goes back.
                token = max(before + 1, int(self._clock() * 1000))
                self._snapshot_record, segments = _read(self._path, token, stat.st_mtime_ns)
                self._chunks = {
                    chunk_key("", prefix, number).key: chunk
                    for prefix, chunks in segments.items()
                    for number, chunk in enumerate(chunks)
                }
                self._seen = seen
        except OSError as error:
            message = f"cannot read the flags in {self._path}: {error.strerror}"
            raise StoreUnavailableError(message) from error
        return self._snapshot_record


def snapshot_of(path: str, source: str) -> Snapshot:
    """Return a file's flag set as a snapshot that counts as older than any in a store.

    Raises:
        CorruptSnapshotError: if it is not a known document.
        ConfigurationError: if it is YAML, and PyYAML is not installed.
        OSError: if it cannot be read.
    """
    stat = os.stat(path)  # noqa: PTH116 - pathlib costs a cold start 6 ms
    snapshot_record, large_segments = _read(path, 0, stat.st_mtime_ns)
    body = Body(snapshot_record.index_data, snapshot_record.index_digest, snapshot_record.body)
    current = {
        segment.data_digest: b"".join(large_segments[segment.prefix()])
        for segment in body.large.values()
    }
    return Snapshot(
        source, snapshot_record, body, lambda segment: current[segment.data_digest], current
    )


def _read(
    path: str, token: int, changed_ns: int
) -> tuple[SnapshotRecord, Mapping[str, list[bytes]]]:
    """Read a file as a snapshot record and chunks of its large segments, by their keys' prefix."""
    try:
        # utf-8-sig: editors on Windows begin files with a byte order mark.
        with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123 - pathlib costs 6 ms
            found = document(parse(path, file.read()))
        encoded = encode(found.sections, found.meta, token=token)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        message = (
            f"{path} is not a document that flagstore knows ({type(error).__name__}: {error}): it "
            "must be an exported snapshot, or a document of one of the providers"
        )
        raise CorruptSnapshotError(message) from error
    snapshot_record = SnapshotRecord(
        token=token,
        provider=found.provider,
        digest=encoded.digest,
        counts=encoded.counts,
        published_at=changed_ns // 1_000_000,
        index_data=encoded.index_data,
        index_digest=encoded.index_digest,
        body=encoded.blocks,
    )
    large_segments = {
        chunks_prefix(token, digest): chunks for digest, chunks in encoded.large_segments.items()
    }
    return snapshot_record, large_segments


# -- documents ------------------------------------------------------------------------------------


class Document(NamedTuple):
    """The flag set of a file."""

    provider: str
    sections: Sections
    meta: dict[str, Any]


def parse(path: str, text: str) -> Json:
    """Parse the content of a file by its extension: YAML, ``.split``, or else JSON."""
    name = path.lower()
    if name.endswith((".yaml", ".yml")):
        return _yaml(path, text)
    if name.endswith(".split"):
        return _split_lines(text)
    return json.loads(text)


def document(content: Json) -> Document:
    """Return the flag set of a document, recognized by its shape."""
    if isinstance(content, list) and content:
        content = {"ff": {"d": _split_yaml(content)}}
    if isinstance(content.get("provider"), str) and "sections" in content:
        return Document(content["provider"], dict(content["sections"]), content.get("meta") or {})
    if _is_from_agent(content):
        content = {"version": "1", "values": content}
    if content.get("version") == "1":
        return _appconfig(content)
    if "features" in content:
        return _unleash(content)
    if "ff" in content or "splits" in content:
        return _split(content)
    if "values" in content:
        return _appconfig(content)
    if "flags" in content or "flagValues" in content:
        return _launchdarkly(content)
    raise ValueError(f"it has {', '.join(sorted(content)[:8]) or 'nothing'}")


def _yaml(path: str, text: str) -> Json:
    """Parse YAML into JSON's types: keys and dates are strings (YAML reads ``on`` as true)."""
    try:
        import yaml  # noqa: PLC0415 - rarely needed, and may not be installed
    except ImportError:
        message = f"{path} is YAML: install PyYAML to read it, or write it as JSON"
        raise ConfigurationError(message) from None

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012 - as in its base
            first: [form for form in forms if not form[0].endswith(":timestamp")]
            for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ANN401, FBT001, FBT002 - as in its base
            self.flatten_mapping(node)
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    key.tag = "tag:yaml.org,2002:str"
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - derived from the safe one
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {error}") from None


# -- AppConfig and Unleash -----------------------------------------------------------------------


def _is_from_agent(content: Mapping[str, Any]) -> bool:
    """Return whether the content is flags as AppConfig's agent serves them."""
    if not content or "flagValues" in content:  # LaunchDarkly's: a flag may be called "enabled"
        return False
    return all(
        isinstance(flag, dict) and isinstance(flag.get("enabled"), bool)
        for flag in content.values()
    )


def _appconfig(content: Mapping[str, Any]) -> Document:
    sections = {"flags": content.get("values") or {}, "definitions": content.get("flags") or {}}
    return Document("appconfig", sections, {"format": "feature-flags"})


def _unleash(content: Mapping[str, Any]) -> Document:
    meta: dict[str, Any] = {name: content[name] for name in ("version", "query") if name in content}
    flags = {feature["name"]: feature for feature in content["features"]}
    segments = {str(segment["id"]): segment for segment in content.get("segments") or ()}
    return Document("unleash", {"flags": flags, "segments": segments}, meta)


# -- LaunchDarkly --------------------------------------------------------------------------------


def _launchdarkly(content: Mapping[str, Any]) -> Document:
    flags = {
        key: {"on": True, "variations": [value], "fallthrough": {"variation": 0}}
        for key, value in (content.get("flagValues") or {}).items()
    }
    flags |= content.get("flags") or {}
    segments = content.get("segments") or {}
    sections = {"flags": _completed(flags), "segments": _completed(segments)}
    return Document("launchdarkly", sections, {})


def _completed(items: Mapping[str, Any]) -> dict[str, Any]:
    """Return flags or segments with the fields that data files may omit."""
    return {
        key: {"key": key, "version": 1, **item} if isinstance(item, dict) else item
        for key, item in items.items()
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
    """Return active definitions by name, completed; like the SDK, drop those without a name."""
    found = {}
    for item in items or ():
        made = {**fields, **item}
        if "seed" in item and "algo" not in item:
            del made["algo"]  # predates the second algorithm
        if str(made.get("name") or "").strip() and made["status"] == "ACTIVE":
            found[made["name"]] = made
    return found


def _split_lines(text: str) -> dict[str, Any]:
    """Return the flags of a ``.split`` file: flag and treatment per line; others are ignored."""
    lines = map(_SPLIT_LINE.fullmatch, map(str.strip, text.splitlines()))
    return {"splits": _split_yaml([{line[1]: {"treatment": line[2]} for line in lines if line}])}


def _split_yaml(statements: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the flags of a YAML file: statements with keys go before those without."""
    flags: dict[str, dict[str, Any]] = {}
    pairs = [(name, entry) for statement in statements for name, entry in statement.items()]
    for name, entry in sorted(pairs, key=lambda pair: "keys" not in pair[1]):
        conditions = flags.setdefault(name, _local(name))["conditions"]
        conditions.append(_condition(_treatment(entry), entry.get("keys")))
    for name, entry in pairs:
        config = entry.get("config")
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            flags[name]["configurations"][_treatment(entry)] = text
    return list(flags.values())


def _treatment(entry: Mapping[str, Any]) -> str:
    treatment = entry["treatment"]
    if isinstance(treatment, bool):  # YAML's on and off
        return "on" if treatment else "off"
    return str(treatment)


def _local(name: str) -> dict[str, Any]:
    """Return a flag without conditions, whose default is ``control``."""
    return {"name": name, "defaultTreatment": "control", "conditions": [], "configurations": {}}


def _condition(treatment: str, keys: Json) -> dict[str, Any]:
    """Return a condition for some keys, or for all if none are given."""
    matcher: dict[str, Any] = {"matcherType": "ALL_KEYS", "negate": False}
    kind, label = "ROLLOUT", "default rule"
    if keys is not None:
        listed = [str(key) for key in (keys if isinstance(keys, list) else [keys])]
        matcher |= {"matcherType": "WHITELIST", "whitelistMatcherData": {"whitelist": listed}}
        kind, label = "WHITELIST", "whitelisted"
    return {
        "conditionType": kind,
        "label": label,
        "matcherGroup": {"combiner": "AND", "matchers": [matcher]},
        "partitions": [{"treatment": treatment, "size": 100}],
    }
