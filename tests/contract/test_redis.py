"""Redis only: users, TLS, memory, clusters, and the reader on a socket."""

from __future__ import annotations

import random
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from redis.exceptions import NoPermissionError, ResponseError

from contract.store_contract import FLOOR, LATER, record
from flagstore.errors import ConfigurationError as ReaderConfigurationError
from flagstore.errors import StoreUnavailableError
from flagstore.keys import Key, SourceState, chunk_key, snapshot_key, state_key
from flagstore.stores.redis import RedisReader, open_reader, parse_url
from simulators.clock import FakeClock
from simulators.redis_server import ADMIN, ADMIN_PASSWORD, Server
from storesync.errors import ConditionFailedError, ConfigurationError, OutOfTimeError, StoreError
from storesync.retry import Deadline, SystemClock
from storesync.store import Condition, Delete, Expire, Put
from storesync.stores import redis_client
from storesync.stores.redis import RedisStore
from storesync.stores.redis_client import open_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.keys import Record
    from storesync.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "redis.md"
PASSWORD = "p/a:s%s@w"
IN_URL = "p%2Fa:s%25s@w"
LINES = {
    line.split()[2]: line.split()[3:]
    for line in PAGE.read_text().splitlines()
    if line.startswith("ACL SETUSER")
}
RIGHTS = [part for part in LINES["storesync"] if part.startswith("+")]


@contextmanager
def opened(
    server: Server, user: str = "", password: str = "", *, native: str = "", **options: Any
) -> Iterator[RedisStore]:
    deadline = Deadline(SystemClock(), random.Random(1), 30)
    with open_redis(server.url(user, password), **options) as client:
        yield RedisStore(client, deadline, rows_at=f"{native} {{prod}}" if native else "")


@contextmanager
def reading(
    server: Server,
    user: str = "",
    password: str = "",
    *,
    ca_file: str = "",
    host: str = "127.0.0.1",
) -> Iterator[RedisReader]:
    address = parse_url(server.url(user, password, host))
    assert address is not None
    with closing(RedisReader(address, ca_file)) as reader:
        yield reader


def soon(seconds: float = 2.0) -> float:
    return time.monotonic() + seconds


def add_user(server: Server, name: str, rules: list[str]) -> None:
    given = [f">{PASSWORD}" if rule == ">PASSWORD" else rule for rule in rules]
    server.admin.execute_command("ACL", "SETUSER", name, "reset", *given)


def dump(server: Server) -> dict[bytes, tuple[bytes, int]]:
    keys = server.admin.keys()
    return {key: (server.admin.dump(key), server.admin.pexpiretime(key)) for key in keys}


def publish(store: Store, token: int = 1) -> list[Record]:
    records = [
        record(*snapshot_key("prod"), token=token, body=b"\x00\xff\r\n" * 50_000, provider="model"),
        record(*chunk_key("prod", f"{token}/", 0), body=b"x"),
        record("prod:flags", "ключ/🙂:{x}", item='{"a":1}', version=10**15),
    ]
    store.put_all(records[1:2])
    writes = [Put(records[0]), Put(records[2])]
    store.commit("prod", Condition(), {"token": token, "published": token, "etag": None}, writes)
    return records


def use_all(store: Store) -> None:
    token, state = store.next_token("prod", FLOOR)
    publish(store, token)
    with pytest.raises(ConditionFailedError):
        store.commit("prod", Condition(token=state.token), {"token": 1})
    expire = Expire(chunk_key("prod", f"{token}/", 0), LATER)
    store.commit("prod", Condition(published=token), {"etag": None}, [expire])
    assert store.read(snapshot_key("prod")) is not None
    flags = [row["key"] for row in store.scan("prod:flags")]
    store.commit("prod", Condition(), {}, [Delete(Key("prod:flags", str(key))) for key in flags])
    assert store.state("prod").published == token


# -- the database ---------------------------------------------------------------------------------


def test_emptied_or_lagging_database_issues_no_token_twice(redis_server: Server) -> None:
    """Tokens go on from the clock's seconds, and scripts are sent again."""
    with opened(redis_server) as store:
        first, _ = store.next_token("prod", FLOOR)
        redis_server.admin.hset("flagstore:{prod}:$state:state", "issued", first - 1)
        again, _ = store.next_token("prod", FLOOR + 30)
        assert again > first
        redis_server.admin.flushall()
        redis_server.admin.script_flush()
        assert store.state("prod") == SourceState()
        assert store.next_token("prod", FLOOR + 60)[0] == FLOOR + 61
        publish(store, again)


def test_expired_records_leave_scans_and_index(redis_server: Server) -> None:
    """Only they have a TTL. Their keys go with the next expiry in their namespace."""
    keys = [chunk_key("prod", f"{number}/", 0) for number in range(3)]
    with opened(redis_server) as store:
        store.put_all([record(*key, body=b"x") for key in keys])
        store.commit("prod", Condition(), {}, [Expire(keys[0], 1), Expire(keys[2], LATER)])
        expiring = [at for _, at in dump(redis_server).values() if at != -1]
        assert expiring == [LATER * 1_000]
        index = "flagstore:{prod}:$body"
        assert redis_server.admin.zcard(index) == 2
        redis_server.admin.delete(f"{index}:{keys[1].key}")
        assert [row["key"] for row in store.scan("prod:$body")] == [keys[2].key]
        store.commit("prod", Condition(), {}, [Expire(keys[2], LATER)])
        assert redis_server.admin.zcard(index) == 1


def test_scan_of_several_pages(redis_server: Server) -> None:
    """More records than a page has, in the order of their bytes."""
    keys = sorted(f"{number}-{'é' * (number % 3)}" for number in range(350))
    with opened(redis_server) as store:
        store.put_all([record("prod:flags", key, item="x") for key in reversed(keys)])
        assert [row["key"] for row in store.scan("prod:flags")] == keys
        ones = [key for key in keys if key.startswith("1")]
        assert [row["key"] for row in store.scan("prod:flags", "1")] == ones


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "refused"), [("allkeys-lru", True), ("volatile-ttl", False)])
def test_server_that_may_evict_flags_is_refused(
    redis_server: Server, policy: str, refused: bool
) -> None:
    """Before anything is written."""
    redis_server.admin.config_set("maxmemory-policy", policy)
    add_user(redis_server, "storesync", LINES["storesync"])
    with opened(redis_server, "storesync", IN_URL) as store:
        if not refused:
            store.next_token("prod", FLOOR)
            return
        with pytest.raises(StoreError, match=f"{policy}.*noeviction"):
            store.next_token("prod", FLOOR)
        with pytest.raises(StoreError, match=f"{policy}.*noeviction"):
            store.put_all([record("prod:$body", "1/000", body=b"x")])
    assert dump(redis_server) == {}


def test_unreadable_policy_is_logged_once(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Managed services may forbid INFO: one warning per client and source."""
    logged: list[str] = []
    monkeypatch.setattr(redis_client.log, "warning", lambda text, **_: logged.append(text))
    rules = [rule for rule in LINES["storesync"] if rule != "+info"]
    add_user(redis_server, "storesync", rules)
    with open_redis(redis_server.url("storesync", IN_URL)) as client:
        for _ in range(3):
            store = RedisStore(client, Deadline(SystemClock(), random.Random(1), 30))
            store.next_token("prod", FLOOR)
            store.commit("prod", Condition(), {"token": 1})
    assert len(logged) == 1


def test_full_memory_fails_before_any_write(redis_server: Server) -> None:
    """Whatever write is first in a commit, the database is unchanged."""
    old = [record("prod:flags", f"old{n}", item="1") for n in range(3)]
    deletes = [Delete(Key("prod:flags", f"old{n}")) for n in range(3)]
    puts = [Put(record("prod:flags", f"old{n}", item="2" * 1_000)) for n in range(3)]
    with opened(redis_server) as store:
        store.put_all(old)
        store.commit("prod", Condition(), {"token": 1, "etag": "x"})
        before = dump(redis_server)
        redis_server.admin.config_set("maxmemory", 1)
        for sets, writes in (
            ({"token": 2, "etag": None}, []),
            ({"token": 2, "etag": None}, [*deletes, *puts]),
            ({"etag": None}, puts),
            ({}, [*deletes, *puts]),
            ({"etag": None, "token": 2}, deletes),
        ):
            with pytest.raises(StoreError, match=r"OOM .*memory is full and nothing was written"):
                store.commit("prod", Condition(token=1), sets, writes)
            assert dump(redis_server) == before
        with pytest.raises(StoreError, match="OOM"):
            store.next_token("prod", FLOOR)
        assert dump(redis_server) == before
        store.commit("prod", Condition(token=1), {}, deletes)
        assert list(store.scan("prod:flags")) == []
        redis_server.admin.config_set("maxmemory", 0)
        store.commit("prod", Condition(token=1), {"token": 2}, puts)


# -- users ----------------------------------------------------------------------------------------


@pytest.fixture
def users(redis_server: Server) -> Server:
    for name, rules in LINES.items():
        add_user(redis_server, name, rules)
    return redis_server


def test_documented_rights_suffice(users: Server) -> None:
    """The writer's for every step, the reader's for every read."""
    with opened(users, "storesync", IN_URL) as store:
        use_all(store)
        records = publish(store, 7)
    with reading(users, "flags-reader", IN_URL) as reader:
        for required in records:
            key = Key(str(required["namespace"]), str(required["key"]))
            assert reader.read(key, consistent=True, deadline=soon()) == required


@pytest.mark.parametrize("right", [right for right in RIGHTS if right != "+info"])
def test_missing_right_fails_before_any_write(redis_server: Server, right: str) -> None:
    """No script stops midway, and each documented right is needed."""
    add_user(redis_server, "storesync", [rule for rule in LINES["storesync"] if rule != right])
    with opened(redis_server, "storesync", IN_URL) as store:
        redis_server.admin.script_flush()
        with pytest.raises(StoreError, match=rf"NOPERM .*(?i:{right[1:]}).*docs/redis\.md"):
            use_all(store)
    assert dump(redis_server) == {}


def test_users_reach_nothing_else(users: Server) -> None:
    """Neither other sources nor other applications' keys; a reader writes nothing."""
    users.admin.set("foreign", "x")
    with opened(users, "storesync", IN_URL) as store:
        with pytest.raises(StoreError, match="NOPERM"):
            store.next_token("other", FLOOR)
        for command in (("HGETALL", "foreign"), ("DEL", "foreign"), ("FLUSHALL",), ("KEYS", "*")):
            with pytest.raises(NoPermissionError):
                store._calls._client.execute_command(*command)
    with reading(users, "flags-reader", IN_URL) as reader:
        with pytest.raises(StoreUnavailableError, match=r"NOPERM.*docs/redis\.md"):
            reader.read(Key("other:$snapshot", "1"), consistent=False, deadline=soon())
        own = "flagstore:{prod}:$state:state"
        for command in (("HSET", own, "a", "b"), ("DEL", own), ("GET", "foreign")):
            with pytest.raises(StoreUnavailableError, match="NOPERM"):
                reader.call([command], soon())


@pytest.mark.parametrize(("user", "code"), [("storesync", "WRONGPASS"), ("", "NOAUTH")])
def test_wrong_password_is_reported_and_not_shown(
    redis_tls: Server, user: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Writer and reader name the remedy, and do not reveal the password."""
    secret = "other-secret" if user else ""
    ca_file = redis_tls.ca_file
    with opened(redis_tls, user, secret, ca_file=ca_file) as store:
        with pytest.raises(StoreError, match=f"{code}.*URL") as failed:
            store.state("prod")
        shown = [repr(store._calls._client), repr(vars(store)), str(failed.value)]
        shown += [repr(failed.value), repr(failed.value.__cause__)]
    with reading(redis_tls, user, secret, ca_file=ca_file) as reader:
        with pytest.raises(StoreUnavailableError, match=f"{code}.*FLAGSTORE_REDIS_URL") as unread:
            reader.read(state_key("prod"), consistent=False, deadline=soon())
        shown += [repr(reader), repr(vars(reader)), str(unread.value)]
    assert all("other-secret" not in text for text in [*shown, caplog.text])


# -- TLS ------------------------------------------------------------------------------------------


def test_tls(redis_tls: Server) -> None:
    """With the server's own authority, for writer and reader."""
    ca_file = redis_tls.ca_file
    with opened(redis_tls, ADMIN, ADMIN_PASSWORD, ca_file=ca_file) as store:
        use_all(store)
        written = store.read(snapshot_key("prod"))
    with reading(redis_tls, ADMIN, ADMIN_PASSWORD, ca_file=ca_file) as reader:
        assert reader.read(snapshot_key("prod"), consistent=False, deadline=soon()) == written


@pytest.mark.parametrize("case", ["the system's authorities", "another authority", "another name"])
def test_untrusted_certificate_is_refused(redis_tls: Server, tmp_path: Path, case: str) -> None:
    """At once, and before user and password are sent."""
    ca_file = redis_tls.ca_file if case == "another name" else ""
    if case == "another authority":
        ca_file = str(tmp_path / "ca.pem")
        trustme.CA().cert_pem.write_to_path(ca_file)
    host = "localhost" if case == "another name" else "127.0.0.1"
    with open_redis(redis_tls.url(ADMIN, ADMIN_PASSWORD, host), ca_file=ca_file) as client:
        store = RedisStore(client, Deadline(FakeClock(), random.Random(1), 30))
        with pytest.raises(StoreError, match=r"CERTIFICATE_VERIFY_FAILED.*REDIS_CA_FILE"):
            store.state("prod")
    refused = pytest.raises(StoreUnavailableError, match="FLAGSTORE_REDIS_CA_FILE")
    with reading(redis_tls, ADMIN, ADMIN_PASSWORD, ca_file=ca_file, host=host) as reader, refused:
        reader.read(state_key("prod"), consistent=False, deadline=soon())


def test_unreadable_authority_is_reported(redis_tls: Server, tmp_path: Path) -> None:
    """A file that is missing, or not a certificate."""
    missing = str(tmp_path / "missing.pem")
    text = r"FLAGSTORE_REDIS_CA_FILE.*missing\.pem"
    with pytest.raises(ConfigurationError, match=text):
        open_redis(redis_tls.url(), ca_file=missing)
    refused = pytest.raises(ReaderConfigurationError, match=text)
    with reading(redis_tls, ca_file=missing) as reader, refused:
        reader.read(state_key("prod"), consistent=False, deadline=soon())


# -- failures -------------------------------------------------------------------------------------


def test_replica_is_reported(redis_server: Server) -> None:
    """READONLY may pass in a failover; if not, the message names the remedy."""
    redis_server.admin.execute_command("REPLICAOF", "127.0.0.1", 1)
    try:
        with open_redis(redis_server.url()) as client:
            store = RedisStore(client, Deadline(FakeClock(), random.Random(1), 30))
            with pytest.raises(StoreError, match=r"READONLY .*name the primary"):
                store.next_token("prod", FLOOR)
    finally:
        redis_server.admin.execute_command("REPLICAOF", "NO", "ONE")


def test_unreachable_server_ends_with_the_deadline() -> None:
    """It is tried several times, within the time that is left."""
    clock = FakeClock()
    begun = clock.monotonic()
    with open_redis("redis://127.0.0.1:1") as client:
        store = RedisStore(client, Deadline(clock, random.Random(1), 30))
        with pytest.raises(StoreError, match=r"127\.0\.0\.1:1"):
            store.state("prod")
        store = RedisStore(client, Deadline(clock, random.Random(1), 0.05))
        with pytest.raises(OutOfTimeError):
            store.state("prod")
    assert clock.monotonic() - begun < 5


def test_error_that_quotes_the_password_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without AUTH quotes its arguments; not even the cause shows them."""

    def refuse(*_command: Any) -> None:
        raise ResponseError("unknown command 'AUTH', with args beginning with: 'user' 'secret' ")

    with open_redis("redis://127.0.0.1:1") as client:
        monkeypatch.setattr(client, "execute_command", refuse)
        with pytest.raises(StoreError, match="unknown command") as failed:
            RedisStore(client, Deadline(FakeClock(), random.Random(1), 30)).state("prod")
    assert "secret" not in f"{failed.value} {failed.value.__cause__}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://user:secret@host",
        "rediss://user:secret@host:secret",
        "rediss://user:secret@host:6379/0?ssl_cert_reqs=none",
    ],
)
def test_invalid_url_is_not_quoted(url: str) -> None:
    """It contains a password: the message shows the expected form instead."""
    with pytest.raises(ConfigurationError, match="rediss://user:password@host") as failed:
        open_redis(url)
    with pytest.raises(ReaderConfigurationError, match="rediss://user:password@host") as unread:
        open_reader({"FLAGSTORE_REDIS_URL": url})
    for error in (failed.value, unread.value):
        assert "secret" not in str(error)
        assert "FLAGSTORE_REDIS_CA_FILE" in str(error)
        assert error.__context__ is None


# -- the reader -----------------------------------------------------------------------------------


def test_database_number(redis_server: Server) -> None:
    """The number at the end of the URL, for writer and reader."""
    url = f"{redis_server.url()}/3"
    with open_redis(url) as client:
        publish(RedisStore(client, Deadline(SystemClock(), random.Random(1), 30)))
    assert dump(redis_server) == {}
    address = parse_url(url)
    assert address is not None
    with closing(RedisReader(address)) as reader:
        assert reader.read(snapshot_key("prod"), consistent=False, deadline=soon()) is not None


# -- clusters -------------------------------------------------------------------------------------


def test_each_source_is_on_one_node(redis_cluster: list[Server]) -> None:
    """Written and read through any node, with the documented rights."""
    for server in redis_cluster:
        for name, rules in LINES.items():
            add_user(server, name, ["~flagstore:*" if "~" in rule else rule for rule in rules])
    sources = ["prod", "eu", "staging", "dev"]
    for number, source in enumerate(sources):
        snapshot_record = record(*snapshot_key(source), token=number)
        with opened(redis_cluster[number % 3], "storesync", IN_URL) as store:
            store.commit(source, Condition(), {"token": number}, [Put(snapshot_record)])
            assert list(store.scan(f"{source}:$snapshot")) == [snapshot_record]
        for server in redis_cluster:
            with reading(server, "flags-reader", IN_URL) as reader:
                found = reader.read(snapshot_key(source), consistent=False, deadline=soon())
                assert found == snapshot_record
    holders = [
        sum(b"{%b}" % source.encode() in key for key in dump(node))
        for source in sources
        for node in redis_cluster
    ]
    assert sorted(holders) == [0] * 8 + [3] * 4
    assert sum(bool(node.admin.dbsize()) for node in redis_cluster) > 1
