"""Reading from Redis with the standard library only, against a fake server."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.errors import StoreUnavailableError
from flagstore.keys import Key
from flagstore.stores.redis import RedisReader, encode, parse_url, to_field, to_record
from simulators.reader_store import published_record
from simulators.scripted_server import CUT, ScriptedServer, in_steps, late
from simulators.strict_python import read_strictly

if TYPE_CHECKING:
    from collections.abc import Iterator


KEY = Key("prod:$snapshot", "1")
FIELDS = [b"token", b"7", b"provider", b"smodel", b"body", b"b\x00\r\n\xff", b"digest", b"s"]
RECORD = {"token": 7, "provider": "model", "body": b"\x00\r\n\xff", "digest": ""}


def reply(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


HEAD = reply(*FIELDS)
OK = b"+OK\r\n"


def to(port: int, login: str = "", database: int = 0) -> RedisReader:
    address = parse_url(f"redis://{login}127.0.0.1:{port}/{database}")
    assert address
    return RedisReader(address)


@pytest.fixture
def played() -> Iterator[ScriptedServer]:
    with ScriptedServer(HEAD, http=False) as server:
        yield server


@pytest.fixture
def reader(played: ScriptedServer) -> Iterator[RedisReader]:
    with closing(to(played.port)) as reader:
        yield reader


def received(played: ScriptedServer) -> list[bytes]:
    return [request.body for request in played.requests]


def read(reader: RedisReader, seconds: float = 2.0) -> Any:
    deadline = time.monotonic() + seconds
    return reader.read(KEY, consistent=False, deadline=deadline)


def test_record_is_one_command(played: ScriptedServer, reader: RedisReader) -> None:
    assert read(reader) == RECORD
    assert received(played) == [b"*2\r\n$7\r\nHGETALL\r\n$28\r\nflagstore:{prod}:$snapshot:1\r\n"]


def test_response_in_small_parts(played: ScriptedServer, reader: RedisReader) -> None:
    played.default = in_steps(HEAD, 1)
    assert read(reader) == read(reader) == RECORD
    assert played.connections == 1


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$x\r\n",
        b"$999999999999\r\n",
        b"*2\r\n$1\r\nabc\r\n$1\r\nb\r\n",
        HEAD + b"+more\r\n",
        CUT,
    ],
)
def test_malformed_responses(played: ScriptedServer, reader: RedisReader, response: bytes) -> None:
    """A typed error in time; the next read uses a fresh connection."""
    played.default = response
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{played.port}"):
        read(reader, 0.2)
    played.default = HEAD
    assert read(reader) == RECORD


def test_no_server_is_an_error_in_time() -> None:
    for host in ("127.0.0.1", "nowhere.invalid"):
        address = parse_url(f"redis://{host}:1")
        assert address
        with pytest.raises(StoreUnavailableError, match=host):
            read(RedisReader(address), 0.2)


def test_login_costs_no_round_trip(played: ScriptedServer) -> None:
    """It is sent with the first command."""
    played.due = [OK + OK + HEAD]
    with closing(to(played.port, "u:p@", 3)) as reader:
        assert read(reader) == read(reader) == RECORD
    command = encode(("HGETALL", "flagstore:{prod}:$snapshot:1"))
    login = encode(("AUTH", "u", "p")) + encode(("SELECT", "3"))
    assert received(played) == [login + command, command]


def test_failed_login_is_repeated(played: ScriptedServer) -> None:
    played.due = [b"-WRONGPASS invalid\r\n" + HEAD, OK + HEAD]
    with closing(to(played.port, ":p@")) as reader:
        with pytest.raises(StoreUnavailableError, match="WRONGPASS"):
            read(reader)
        assert read(reader) == RECORD
    login = encode(("AUTH", "p"))
    assert all(request.body.startswith(login) for request in played.requests)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="allowed: this system has no timers")
def test_interrupted_read_leaves_no_response_behind(
    played: ScriptedServer, reader: RedisReader
) -> None:
    class TimeLimit(BaseException):
        pass

    def end(*_: object) -> None:
        raise TimeLimit

    read(reader)
    played.due = [late(0.2, reply(b"token", b"1"))]
    before = signal.signal(signal.SIGALRM, end)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimeLimit):
            read(reader)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert read(reader) == RECORD


@pytest.mark.parametrize(
    "error",
    [b"LOADING Redis is loading the dataset in memory", b"ERR max number of clients reached"],
)
def test_transient_errors_are_retried(
    played: ScriptedServer, reader: RedisReader, error: bytes
) -> None:
    played.due = [b"-%b\r\n" % error] * 2
    assert read(reader) == RECORD
    played.default = b"-%b\r\n" % error
    with pytest.raises(StoreUnavailableError, match=error.decode()[:20]):
        read(reader, 0.1)


def test_permanent_errors_are_raised_at_once(played: ScriptedServer, reader: RedisReader) -> None:
    """With a remedy, without quoted arguments."""
    played.default = b"-ERR unknown command 'AUTH', with args beginning with: 'u' 'secret' \r\n"
    with pytest.raises(StoreUnavailableError, match="unknown command") as failed:
        read(reader)
    assert "secret" not in str(failed.value)
    played.default = b"-WRONGTYPE Operation against a key\r\n"
    with pytest.raises(StoreUnavailableError, match="another program writes keys"):
        read(reader)
    assert len(received(played)) == 2


def test_redirect_is_followed_and_kept(played: ScriptedServer, reader: RedisReader) -> None:
    """If that node fails, back to the first; an empty host means the node that responded."""
    with ScriptedServer(HEAD, http=False) as other:
        there = b"-MOVED 811 127.0.0.1:%d\r\n" % other.port
        played.due = [b"-MOVED 811 :%d\r\n" % played.port, HEAD, there]
        assert read(reader) == read(reader) == read(reader) == RECORD
        assert (len(received(played)), len(received(other))) == (3, 2)
    assert read(reader) == RECORD


@pytest.mark.parametrize("place", [b"127.0.0.1:%d", b"nonsense", b"127.0.0.1:99999999"])
def test_endless_redirects_end_by_the_deadline(
    played: ScriptedServer, reader: RedisReader, place: bytes
) -> None:
    place = place.replace(b"%d", b"%d" % played.port)
    played.default = b"-MOVED 811 %b\r\n" % place
    with pytest.raises(StoreUnavailableError, match="MOVED 811"):
        read(reader, 0.3)


def test_time_out_reports_the_earlier_error(played: ScriptedServer, reader: RedisReader) -> None:
    played.due = [b"-LOADING the dataset\r\n"]
    played.default = b""
    with pytest.raises(StoreUnavailableError, match="before that: LOADING the dataset"):
        read(reader, 0.8)


@pytest.mark.parametrize(
    ("url", "required"),
    [
        ("redis://h", (False, "h", 6379, "", "", 0)),
        ("rediss://u:p@h:6380/15", (True, "h", 6380, "u", "p", 15)),
        ("rediss://:p@h.example", (True, "h.example", 6379, "", "p", 0)),
        ("rediss://u:p%40%2F%25@h", (True, "h", 6379, "u", "p@/%", 0)),
        ("rediss://u:a@b/c:d@h:1/", (True, "h", 1, "u", "a@b/c:d", 0)),
        ("redis://[::1]:7000", (False, "::1", 7000, "", "", 0)),
        ("h:6379", None),
        ("redis://h:65536", None),
        ("redis://h/x", None),
        ("redis://h?x=1", None),
        ("redis://u@h", None),
    ],
)
def test_urls(url: str, required: tuple[Any, ...] | None) -> None:
    assert parse_url(url) == required


def test_address_hides_its_password() -> None:
    address = parse_url("rediss://user:secret@host")
    assert "secret" not in f"{address!r} {address} {address!s}"


def test_closed_client_leaves_nothing_open(played: ScriptedServer) -> None:
    """Python warns of no socket; the URL wins over a table."""
    record = published_record({"a": {"on": True}})
    fields = [(name.encode(), to_field(value)) for name, value in record.items()]
    played.default = reply(*(part for field in fields for part in field))
    url = f"redis://127.0.0.1:{played.port}"
    assert read_strictly({"FLAGSTORE_REDIS_URL": url, "FLAGSTORE_TABLE": "t"}) == "['a'] False \n"


@pytest.mark.parametrize("value", [0, -1, 2**63, "", "s", "1", "ü\r\n", b"", b"s", b"1\xff"])
def test_values_keep_their_types(value: int | str | bytes) -> None:
    """A string of digits is not a number."""
    found = to_record([b"name", to_field(value)])
    assert found == {"name": value}
    assert type(found["name"]) is type(value)


def test_foreign_fields_are_left_out() -> None:
    """Other programs' or damaged ones."""
    fields = [b"a", b"1", b"b", b"x", b"c", b"", b"d", b"s\xff", b"\xff", b"1", b"e", b"sok"]
    assert to_record(fields) == {"a": 1, "e": "ok"}
