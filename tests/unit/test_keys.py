"""Names of keys, and the records of the store."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagstore import keys
from flagstore.codec import Body
from flagstore.encode import content_digest, read_deltas
from flagstore.errors import ConfigurationError, CorruptSnapshotError
from flagstore.keys import Key, SnapshotRecord, SourceState, Version

DIGEST = "0123456789abcdef" * 4
SEPARATORS = "_./: \n\x00*{}$ö\u0663\uff50\ud800"
NOT_NAMES: list[Any] = ["", "-prod", "x" * 49, "Prod", "\np", None, b"prod"]


@pytest.mark.parametrize("name", ["7", "prod-eu", "0-", "a--b", "x" * 48])
def test_valid_source_names(name: str) -> None:
    """1 to 48 of a-z, 0-9 and '-', not starting with '-'."""
    assert keys.check_source(name) == name


@pytest.mark.parametrize("name", [*NOT_NAMES, *(f"p{c}" for c in SEPARATORS)])
def test_invalid_source_names(name: Any) -> None:
    """Anything that could affect keys, policies, paths or URLs."""
    with pytest.raises(ConfigurationError, match="1 to 48"):
        keys.check_source(name)


TOKENS = st.integers(1, 10**12 - 1)


@given(TOKENS, TOKENS, st.integers(0, 999), st.integers(0, 999))
def test_keys_sort_as_numbers(one: int, other: int, first: int, second: int) -> None:
    """So a Query returns them in order, and the prefix of token 1 does not select token 10."""
    for key_of in (keys.history_key, lambda source, token: keys.pending_key(source, token, DIGEST)):
        assert (key_of("prod", one).key < key_of("prod", other).key) == (one < other)
    ours, theirs = (keys.chunks_prefix(token, DIGEST) for token in (one, other))
    assert keys.chunk_key("prod", theirs, first).key.startswith(ours) == (one == other)
    chunks = [keys.chunk_key("prod", ours, number).key for number in (first, second)]
    assert (chunks[0] < chunks[1]) == (first < second)


def test_keys_of_the_documented_layout() -> None:
    """Other tools read them; rights to ``prod:*`` are not rights to ``prod-eu``."""
    assert keys.state_key("prod") == ("prod:$state", "state")
    assert keys.snapshot_key("prod") == ("prod:$snapshot", "1")
    assert keys.snapshot_key("prod", 2) == ("prod:$snapshot~2", "1")
    assert keys.snapshot_key("prod", layout=2) == ("prod:$snapshot", "2")
    assert keys.history_key("prod", 1_795_000_001) == ("prod:$history", "001795000001")
    prefix = keys.chunks_prefix(1_795_000_001, DIGEST)
    assert prefix == "001795000001/0123456789abcdef/"
    assert keys.pending_key("prod", 1_795_000_001, DIGEST) == ("prod:$pending_records", prefix)
    assert keys.chunk_key("prod", prefix, 0) == ("prod:$body", f"{prefix}000")
    assert keys.chunk_key("prod", prefix, 7) == ("prod:$body~7", f"{prefix}007")
    assert keys.chunk_key("prod", prefix, 33) == ("prod:$body~1", f"{prefix}033")
    assert keys.row_namespace("prod", "launchdarkly", "flags") == "prod:features"
    assert keys.row_namespace("prod", "launchdarkly", "segments") == "prod:segments"
    assert keys.row_marker("prod") == Key("prod:$inited", "prod:$inited")
    assert keys.row_namespace("prod", "unleash", "flags") == "prod:flags"
    assert keys.split_namespace("prod") == "prod:SPLITIO"
    assert keys.document_key("prod") == ("prod:document", "features")


def test_chunks_of_a_snapshot_record() -> None:
    head = SnapshotRecord(7, "model", "d", '{"flags":1}', 5, b"index", "i")
    assert "body" not in head.to_record(keys.snapshot_key("prod"))
    assert head.stored_chunks() == ("", 0)
    prefix = keys.chunks_prefix(7, head.index_digest)
    assert head._replace(chunks="[7,3]").stored_chunks() == (prefix, 3)


# As version 0.1.0 writes them, byte for byte; never regenerated. A new LAYOUT adds another.
WRITTEN_SNAPSHOT: dict[int, dict[str, Any]] = {
    1: {
        "namespace": "prod:$snapshot",
        "key": "1",
        "token": 1_795_000_001,
        "provider": "launchdarkly",
        "digest": "7fd957a6ed3edffe8532446be551127a4d31b902832b83c002cf60dcdd22098a",
        "counts": '{"flags":2,"segments":0}',
        "published_at": 1_795_000_000_000,
        "index_data": bytes.fromhex(
            "78da4d8e4b0e83300c44efe2752a993a38a4574159248ea155f94825a80bc4dd1b76dd8c66164ff3"
            "0e98b544781ca7814da5bcd665ab0b86298eb5f43d2cfabdc953e5bdee050c9a960db89c3d794e24"
            "3c907448c97a15e79823b769b843303dac53fe032b46544955c4cea5061beb5cd7c69a94d0fa8cd9"
            "0a7b08e11219675dcaf51faad7143fa35e8ae70f37c63463"
        ),
        "index_digest": "339e7e735a42162cfc05ee01ba05e458c4101125fb8a2c55a3788f7f617faa03",
        "revision": 0,
        "body": bytes.fromhex(
            "78daabe652ca4b2dd74dce484dcece2f2d51b2aa56ca4ead54b24215d551cacf53b22a292a4dd551"
            "2a4b2d2ace04712d6ab96a01acf8155778f9acf81557abe652cacf49c1a21d4514a23d2d31a71859"
            "bf31503f00bd821587"
        ),
        "chunks": "",
        "nonce": "9f86d081884c7d65",
    }
}
WRITTEN_STATE: dict[str, Any] = {
    "issued": 1_795_000_003,
    "token": 1_795_000_002,
    "published": 1_795_000_001,
    "digest": "7fd957a6ed3edffe8532446be551127a4d31b902832b83c002cf60dcdd22098a",
    "etag": '"5f3c"',
    "revision": 4711,
    "checked_at": 1_795_000_060_000,
    "verified_at": 1_795_000_000_000,
    "config_fingerprint": "w",
    "rows_version": 1_795_000_001,
    "pinned": 1_795_000_120_000,
    "removed": 1,
    "error": '[1795000000000,"RefusedSet","all 12 flags are gone"]',
    "refused": "5f3c",
    "allowed": 1_795_000_000,
    "history": "[[1795000000,1794999999000],[1795000001,1795000000000]]",
    "issued_nonce": "fcde2b2edba56bf4",
    "check_nonce": "2c26b46b68ffc68f",
    "nonce": "9f86d081884c7d65",
    "deltas": bytes.fromhex(
        "78da558dcb6ac3500c05ff456b0574df927f2578614bba6d49482071528af1bf97bb297476736671"
        "cee7d0248b081121785a49738ec25d83860c338e5e681010a47335e2c09cb5592d80d0ba49694b75"
        "4b6ebd3b971473aeab9712426c4bb61456a1c829ae9c94286aaf646a1623092f807f070324dca15f"
        "978f274c3bdcfcfba49fae97fb6b1b7ef11f98feaf08f71b4cdbe3e5086f7f3cbf86f2711cb81ff3"
        "fc0b332b3ebc"
    ),
}


def test_snapshot_record_of_the_first_release() -> None:
    """It stays readable to the last byte; unknown attributes are ignored, missing ones are not."""
    record = WRITTEN_SNAPSHOT[keys.LAYOUT]
    assert keys.snapshot_key("prod") == (record["namespace"], record["key"])
    found = SnapshotRecord.from_record({**record, "expires_at": 1, "new": "attribute"})
    assert found.to_record(keys.snapshot_key("prod")) == record
    body = Body(found.index_data, found.index_digest, found.body)
    assert list(body.sections) == ["flags", "segments"]
    assert body.text("flags", "new-checkout") == '{"key":"new-checkout","on":true,"version":8}'
    assert body.text("flags", "old-checkout") == '{"key":"old-checkout","on":false,"version":3}'
    assert content_digest({name: body.items(name) for name in body.sections}, {}) == found.digest
    for name in SnapshotRecord._fields[:7]:
        torn = {key: value for key, value in record.items() if key != name}
        with pytest.raises(CorruptSnapshotError, match="attributes are missing"):
            SnapshotRecord.from_record(torn)


def test_source_state_of_the_first_release() -> None:
    """Later attributes have defaults, and unknown ones are ignored."""
    state = SourceState.from_record({**WRITTEN_STATE, "colour": "blue"})
    assert {name: getattr(state, name) for name in WRITTEN_STATE} == WRITTEN_STATE
    assert state.versions()[-1] == Version(1_795_000_001, 1_795_000_000_000)
    flag = {"key": "new-checkout", "on": True, "version": 8}
    changes: list[Any] = [{"flags": {"new-checkout": flag}}, {}]
    identity = [state.published, state.nonce, state.digest, 1_795_000_000_000, 0]
    assert read_deltas(state.deltas) == [[1_794_999_000, "e3b0c44298fc1c14"], identity + changes]
