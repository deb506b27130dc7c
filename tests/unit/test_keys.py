"""Names of keys, and the records of the store."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagstore import keys
from flagstore.codec import Body
from flagstore.errors import ConfigurationError, CorruptSnapshotError, NotLoadedError
from flagstore.keys import Key, SnapshotRecord, SourceState, Version

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,47}", fullmatch=True)
DIGEST = "0123456789abcdef" * 4
HEAD = SnapshotRecord(
    token=7,
    provider="model",
    digest="d",
    counts='{"flags":1}',
    published_at=5,
    index_data=b"index",
    index_digest="i",
)


def keys_of(source: str) -> list[Key]:
    """Return one key of every kind that a source has."""
    return [
        keys.state_key(source),
        keys.snapshot_key(source),
        keys.snapshot_key(source, 1),
        keys.history_key(source, 7),
        keys.pending_key(source, 7, DIGEST),
        keys.chunk_key(source, keys.chunks_prefix(7, DIGEST), 0),
        Key(keys.row_namespace(source, "launchdarkly", "flags"), "a"),
        Key(keys.row_namespace(source, "launchdarkly", "segments"), "a"),
        Key(keys.row_namespace(source, "model", "flags"), "a"),
        Key(keys.row_namespace(source, "model", "segments"), "a"),
        keys.row_marker(source, "launchdarkly") or Key("", ""),
        Key(keys.split_namespace(source), "a"),
        keys.document_key(source),
    ]


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "7", "prod", "prod-eu", "0-", "a--b", "x" * 48])
def test_valid_source_names(name: str) -> None:
    """1 to 48 of a-z, 0-9 and '-', not starting with '-'."""
    assert keys.check_source(name) == name


NOT_STRINGS: list[Any] = [None, 7, b"prod", ["prod"]]
SEPARATORS = "_./: \n\x00*{}$ö\u0663\uff50\ud800"


@pytest.mark.parametrize(
    "name", ["", "-prod", "x" * 49, "Prod", *(f"p{c}" for c in SEPARATORS), "\np", *NOT_STRINGS]
)
def test_invalid_source_names(name: Any) -> None:
    """Anything that could affect keys, policies, paths or URLs."""
    with pytest.raises(ConfigurationError, match="1 to 48"):
        keys.check_source(name)


# -- keys ---------------------------------------------------------------------------------------


@given(NAMES, NAMES)
def test_namespaces_begin_with_the_source(one: str, other: str) -> None:
    """Rights to ``prod:*`` are not rights to ``prod-eu``."""
    mine = {key.namespace for key in keys_of(one)}
    assert all(namespace.startswith(f"{one}:") for namespace in mine)
    if one != other:
        assert not any(key.namespace.startswith(f"{one}:") for key in keys_of(other))


def test_keys_of_one_source_are_distinct() -> None:
    """No kind of record overwrites another."""
    found = keys_of("prod")
    # The segments of all providers lie in one namespace: a source has one provider.
    assert len(set(found)) == len(found) - 1
    ours = {key.namespace for key in found if "$" in key.namespace} - {"prod:$inited"}
    rows = {key.namespace for key in found if "$" not in key.namespace}
    assert not ours & rows


def test_replicas_have_their_own_partitions() -> None:
    """The first one is where readers without replicas look."""
    replicas = [keys.snapshot_key("prod", replica) for replica in range(4)]
    assert replicas[0] == Key("prod:$snapshot", "1")
    assert len({key.namespace for key in replicas}) == 4
    assert {key.key for key in replicas} == {str(keys.LAYOUT)}
    assert keys.snapshot_key("prod", layout=2) == Key("prod:$snapshot", "2")


@given(st.integers(1, 10**12 - 1), st.integers(1, 10**12 - 1))
def test_tokens_in_keys_sort_as_numbers(one: int, other: int) -> None:
    """Keys are padded."""
    first, second = (keys.history_key("prod", token).key for token in (one, other))
    assert (first < second) == (one < other)
    assert int(first) == one
    first, second = (keys.pending_key("prod", token, DIGEST).key for token in (one, other))
    assert (first < second) == (one < other)


@given(st.integers(0, 999), st.integers(0, 999))
def test_chunks_sort_as_numbers(one: int, other: int) -> None:
    """A Query returns them in order."""
    prefix = keys.chunks_prefix(7, DIGEST)
    first, second = [keys.chunk_key("prod", prefix, number).key for number in (one, other)]
    assert (first < second) == (one < other)
    assert all(key.startswith(prefix) for key in (first, second))


@given(st.integers(1, 10**12 - 1), st.integers(1, 10**12 - 1))
def test_chunk_prefix_selects_one_token(one: int, other: int) -> None:
    """Token 1 does not find the chunks of token 10."""
    ours, theirs = (keys.chunks_prefix(token, DIGEST) for token in (one, other))
    assert keys.chunk_key("prod", theirs, 0).key.startswith(ours) == (one == other)


def test_keys_of_the_documented_layout() -> None:
    """Other tools read them."""
    assert keys.state_key("prod") == ("prod:$state", "state")
    assert keys.snapshot_key("prod", 2) == ("prod:$snapshot~2", "1")
    assert keys.history_key("prod", 1_795_000_001) == ("prod:$history", "001795000001")
    prefix = keys.chunks_prefix(1_795_000_001, DIGEST)
    assert prefix == "001795000001/0123456789abcdef/"
    assert keys.pending_key("prod", 1_795_000_001, DIGEST) == ("prod:$pending_records", prefix)
    assert keys.chunk_key("prod", prefix, 7) == ("prod:$body", f"{prefix}007")
    assert keys.row_namespace("prod", "launchdarkly", "flags") == "prod:features"
    assert keys.row_namespace("prod", "launchdarkly", "segments") == "prod:segments"
    assert keys.row_marker("prod", "launchdarkly") == Key("prod:$inited", "prod:$inited")
    assert keys.row_namespace("prod", "unleash", "flags") == "prod:flags"
    assert keys.row_marker("prod", "unleash") is None
    assert keys.split_namespace("prod") == "prod:SPLITIO"
    assert keys.document_key("prod") == ("prod:document", "features")


# -- records ------------------------------------------------------------------------------------


def test_unknown_attributes_of_a_state_are_ignored() -> None:
    """A newer writer may add some."""
    record = {**keys.state_key("prod")._asdict(), "token": 9, "published": 8, "colour": "blue"}
    assert SourceState.from_record(record) == SourceState(token=9, published=8)


def test_missing_state_is_all_zeros() -> None:
    """Nothing has been published."""
    state = SourceState.from_record({})
    assert (state.token, state.published, state.versions()) == (0, 0, [])


@given(
    st.builds(
        SnapshotRecord,
        token=st.integers(1, 10**12),
        provider=st.sampled_from(["launchdarkly", "unleash"]),
        digest=st.text(min_size=1),
        counts=st.just("{}"),
        published_at=st.integers(0, 10**14),
        index_data=st.binary(min_size=1),
        index_digest=st.text(min_size=1),
        revision=st.integers(0, 2**53),
        body=st.binary(),
        chunks=st.sampled_from(["", "[7,3]"]),
    )
)
def test_snapshot_record_round_trip(snapshot_record: SnapshotRecord) -> None:
    """Other attributes are ignored."""
    record = {
        **snapshot_record.to_record(keys.snapshot_key("prod")),
        "expires_at": 1,
        "new": "attribute",
    }
    assert SnapshotRecord.from_record(record) == snapshot_record


def test_empty_body_is_left_out() -> None:
    """The body is in chunks then."""
    assert "body" not in HEAD.to_record(keys.snapshot_key("prod"))
    assert HEAD._replace(body=b"x").to_record(keys.snapshot_key("prod"))["body"] == b"x"


@pytest.mark.parametrize("missing", SnapshotRecord._fields[:7])
def test_incomplete_snapshot_record_is_corrupt(missing: str) -> None:
    """The error lists the attributes."""
    record = HEAD.to_record(keys.snapshot_key("prod"))
    del record[missing]
    with pytest.raises(CorruptSnapshotError, match="attributes are missing") as caught:
        SnapshotRecord.from_record(record)
    assert isinstance(caught.value, NotLoadedError)
    assert repr(missing) not in str(caught.value)


def test_snapshot_record_names_its_chunks() -> None:
    """("", 0) if there are none."""
    assert HEAD.stored_chunks() == ("", 0)
    prefix = keys.chunks_prefix(7, HEAD.index_digest)
    assert HEAD._replace(chunks="[7,3]").stored_chunks() == (prefix, 3)


# -- what lies there already ---------------------------------------------------------------------

# As version 0.1.0 writes them, byte for byte; never regenerated. A new LAYOUT adds another.
WRITTEN_SNAPSHOT: dict[int, dict[str, Any]] = {
    1: {
        "namespace": "prod:$snapshot",
        "key": "1",
        "token": 1_795_000_001,
        "provider": "launchdarkly",
        "digest": "d15c1279c19415609df558ddf418edb18e39b171e9a9d5d450fdc2f48d94e964",
        "counts": '{"flags":1,"segments":0}',
        "published_at": 1_795_000_000_000,
        "index_data": bytes.fromhex(
            "78da15cd410e83201085e1bbcc7a9aa8e850bc8a6101e3409b2a2615e3c2787761f7fecdf72e5825"
            "3b18af1b6117cedf2deda5202c2e96314d90e47cf147f8b71d19b0c18110f43c1b65c82ba6a0f8dd"
            "28df1b61ad891c0d3e7480adb5158caba45c1d5bfcc5fda3d4abfb01c0f92537"
        ),
        "index_digest": "db95964c17fee36532e4e018e47edbe6927551c85ab27923bf5b41b9c42b00d2",
        "revision": 0,
        "body": bytes.fromhex(
            "78daabe652ca4b2dd74dce484dcece2f2d51b2aa56ca4ead54b24215d551cacf53b22a292a4dd551"
            "2a4b2d2ace04712d6ab96a01acf81557"
        ),
        "chunks": "",
        "nonce": "9f86d081884c7d65",
    }
}
WRITTEN_STATE: dict[str, Any] = {
    "issued": 1_795_000_003,
    "token": 1_795_000_002,
    "published": 1_795_000_001,
    "digest": "d15c1279c19415609df558ddf418edb18e39b171e9a9d5d450fdc2f48d94e964",
    "etag": '"5f3c"',
    "revision": 4711,
    "checked_at": 1_795_000_060_000,
    "verified_at": 1_795_000_000_000,
    "config_fingerprint": "w",
    "rows_version": 1_795_000_001,
    "pinned": 1_795_000_120_000,
    "removed": 1,
    "error": '[1795000000000,"RefusedSet","none of 12 flags is left"]',
    "refused": "5f3c",
    "allowed": 1_795_000_000,
    "history": "[[1795000000,1794999999000],[1795000001,1795000000000]]",
    "issued_nonce": "fcde2b2edba56bf4",
    "check_nonce": "2c26b46b68ffc68f",
    "nonce": "9f86d081884c7d65",
}


def test_snapshot_record_of_the_first_release() -> None:
    """It stays readable to the last byte."""
    record = WRITTEN_SNAPSHOT[keys.LAYOUT]
    assert keys.snapshot_key("prod") == (record["namespace"], record["key"])
    snapshot_record = SnapshotRecord.from_record(record)
    assert snapshot_record.to_record(keys.snapshot_key("prod")) == record
    body = Body(snapshot_record.index_data, snapshot_record.index_digest, snapshot_record.body)
    assert list(body.sections) == ["flags", "segments"]
    assert body.text("flags", "new-checkout") == '{"key":"new-checkout","on":true,"version":8}'
    assert body.count("segments") == 0


def test_source_state_of_the_first_release() -> None:
    """Later attributes have defaults."""
    state = SourceState.from_record(WRITTEN_STATE)
    assert {name: getattr(state, name) for name in WRITTEN_STATE} == WRITTEN_STATE
    assert state.versions()[-1] == Version(1_795_000_001, 1_795_000_000_000)
