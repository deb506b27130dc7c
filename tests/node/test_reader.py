"""Node.js' own tests of its reader; what it shares with Python's; and the store it reads."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
import trustme
from botocore.endpoint_provider import EndpointProvider

from flagstore import keys
from flagstore.codec import dumps
from flagstore.encode import canonical, content_digest
from local import certificates
from local.relay import Relay
from node.processes import HERE, environment, node, run_tests
from node.vector_sets import ODD_KEYS, odd_items
from rigs import SOURCE
from sdks.processes import started
from simulators.unreliable import Killed, UnreliableClient, kill_at
from storesync.maintenance import roll_back
from tools import node_roots
from unit.test_sigv4 import request, signed_by_botocore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rigs import DynamoRig
    from sdks.processes import Ask

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
EXPIRED_S = 61


def test_roots_are_the_same() -> None:
    """Of the one copy in Python: ``python -m tools.node_roots`` writes them."""
    assert node_roots.FILE.read_text(encoding="utf-8") == node_roots.javascript()


def test_client() -> None:
    run_tests("client.test.js")


def test_start() -> None:
    run_tests("start.test.js")


def test_adapters() -> None:
    run_tests("adapters.test.js")


def test_usage() -> None:
    run_tests("usage.test.js")


def test_network(tmp_path: Path) -> None:
    """Against a server that plays every fault, with authorities of our own."""
    amazon, system = trustme.CA(), trustme.CA()
    for name, authority in (("amazon", amazon), ("system", system)):
        authority.cert_pem.write_to_path(tmp_path / f"{name}-ca.pem")
    leaves = {
        "amazon": amazon.issue_cert("127.0.0.1"),
        "store": amazon.issue_cert("store.example"),
        "system": system.issue_cert("127.0.0.1"),
        "unknown": trustme.CA().issue_cert("127.0.0.1"),
        "expired": amazon.issue_cert("127.0.0.1", not_after=LONG_AGO),
        "other-name": system.issue_cert("x.example"),
    }
    for name, leaf in leaves.items():
        leaf.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(tmp_path / f"{name}.pem", append=True)
    run_tests(
        "network.test.js",
        FLAGSTORE_CERTIFICATES=str(tmp_path),
        SSL_CERT_FILE=str(tmp_path / "system-ca.pem"),
    )


# -- what Python says of the same ------------------------------------------------------------------


def test_format(tmp_path: Path) -> None:
    """Signatures, endpoints, canonical JSON, digests and the order of keys."""
    cases = {
        "signatures": list(signatures(200)),
        "endpoints": list(endpoints()),
        "items": list(items()),
        "strings": [{"text": text, "ascii": json.dumps(text)} for text in sorted(ODD_KEYS)],
        "changes": list(changes(50)),
    }
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases), encoding="utf-8")
    run_tests("format.test.js", FLAGSTORE_CASES=str(path))


def signatures(count: int) -> Iterator[dict[str, Any]]:
    for seed in range(count):
        asked = request(random.Random(seed))
        signed = signed_by_botocore(asked) | {"host": asked["host"]}
        access_key, secret_key, token = asked.pop("credentials")
        yield {
            "credentials": {"accessKey": access_key, "secretKey": secret_key, "token": token},
            "body": b64encode(asked.pop("body")).decode(),
            "request": asked,
            "signed": signed,
        }


def endpoints() -> Iterator[dict[str, Any]]:
    loader = botocore.session.get_session().get_component("data_loader")
    partitions = loader.load_data("partitions")
    rules = EndpointProvider(
        loader.load_service_model("dynamodb", "endpoint-rule-set-1"), partitions
    )
    names = [name for each in partitions["partitions"] for name in each["regions"]]
    for region in (name for name in names if not name.endswith("-global")):
        for number in range(4):
            fips, dual = bool(number & 1), bool(number & 2)
            found = rules.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dual)
            environ = {"AWS_USE_FIPS_ENDPOINT": "True" * fips}
            environ |= {"AWS_USE_DUALSTACK_ENDPOINT": "true" * dual}
            yield {"environ": environ, "region": region, "url": found.url}


def items() -> Iterator[dict[str, str]]:
    whole = odd_items()
    nested: Any = 1.0
    for _ in range(500):
        nested = {"b": [nested], "a": 10**40}
    for item in [whole, [whole], dict(reversed(whole.items())), nested, *whole.values()]:
        digest = content_digest({"flags": {"é": item}})
        yield {"stored": dumps(item), "canonical": canonical(item), "digest": digest}


def changes(count: int) -> Iterator[dict[str, Any]]:
    """Return changes of sets; some of their sums pass 2^256, or go below 0."""
    rng = random.Random(1)
    for _ in range(count):
        old = {f"{n}": rng.random() for n in range(rng.randrange(5))}
        new = {f"{n}": rng.random() for n in range(rng.randrange(5))}
        yield {
            "before": content_digest({"flags": old}, {"version": 1}),
            "after": content_digest({"flags": new}, {"version": 1}),
            "replaced": {key: dumps(item) for key, item in old.items()},
            "added": {key: dumps(item) for key, item in new.items()},
        }


# -- the store -------------------------------------------------------------------------------------


@contextmanager
def reading(rig: DynamoRig, tmp_path: Path) -> Iterator[tuple[Ask, Relay]]:
    """Start a process that reads a rig's table over TLS; give it, and what counts its calls."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = certificates.server_context(authority.issue_cert(*certificates.NAMES))
    known = rig.aws.environment
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(rig.aws.port, tls=tls))
        environ = environment(
            AWS_ENDPOINT_URL=f"https://127.0.0.1:{relay.port}",
            FLAGSTORE_TABLE=rig.table.name,
            SSL_CERT_FILE=str(tmp_path / "ca.pem"),
            **{name: known[name] for name in names},
        )
        command = [node(), str(HERE / "support" / "reader.js")]
        yield stack.enter_context(started(command, environ)), relay


def content(generation: int) -> dict[str, Any]:
    """Return the set of one generation: each flag names it, and their number varies."""
    return {f"flag-{n:02}": {"generation": generation} for n in range(30 + generation % 5)}


def same_as_python(rig: DynamoRig, found: dict[str, Any]) -> None:
    with rig.snapshot() as snapshot:
        record = snapshot.snapshot_record
        assert (found["token"], found["digest"]) == (record.token, record.digest)
        sections = {name: dict(snapshot.texts(name)) for name in json.loads(record.counts)}
    assert found["texts"] == sections
    assert not found["info"]["stale"]


def test_published_sets(dynamo_rig: DynamoRig, tmp_path: Path) -> None:
    """By the real publisher: a change costs one GetItem; then a rollback, and one in chunks."""
    rig = dynamo_rig
    big = [f"{n:032x}" for n in range(3_000)]
    rig.provider.segments = {"big": big, "small": ["x"]}
    rig.provider.change(**content(1), **odd_items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flagstore.encode.BLOCK_BYTES", 1)  # a block for each flag
        rig.sync()
    first = rig.store().state(SOURCE).published
    with reading(rig, tmp_path) as (ask, relay):
        same_as_python(rig, ask(do="read"))
        assert relay.count().calls == ("GetItem",) * 2  # the set, and its large segment
        rig.provider.change(**{"flag-01": {"generation": 1.0}})
        rig.sync()
        same_as_python(rig, ask(do="read", after=EXPIRED_S))
        assert relay.count().calls == ("GetItem",)
        roll_back(rig.source(), rig.store(), rig.clock, to=first, pinned_until=0)
        same_as_python(rig, ask(do="read", after=EXPIRED_S))
        assert relay.count().calls == ("GetItem",) * 2
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keys, "INLINE_BYTES", 0)
            patch.setattr("flagstore.encode.CHUNK_BYTES", 700)
            rig.provider.change(more=[random.Random(n).random() for n in range(300)])
            rig.sync()
        same_as_python(rig, ask(do="read", after=EXPIRED_S))
        assert len(relay.count().calls) > 4
        assert relay.count().calls == ()


@pytest.mark.parametrize(
    ("publications", "required"),
    [(12, 300), pytest.param(200, 20_000, marks=pytest.mark.campaign)],
    ids=["dose", "all"],
)
def test_reader_during_publications(
    dynamo_rig: DynamoRig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    publications: int,
    required: int,
) -> None:
    """Whole sets, in order, while writers die at any call."""
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 200)
    rig, rng = dynamo_rig, random.Random(1)
    rig.provider.change(**content(1))
    rig.sync()
    kills = generation = 0
    with reading(rig, tmp_path) as (ask, _):
        ask(do="watch")
        for generation in range(2, publications + 2):
            monkeypatch.setattr(keys, "INLINE_BYTES", 300_000 if generation % 2 else 0)
            rig.replace(content(generation))
            if rng.random() < 0.5:
                kills += killed(rig, rng.choice(("before", "after")), rng.randrange(12))
            assert rig.sync().outcome in {"published", "unchanged"}
        ask(do="reads", least=required)
        seen = ask(do="stop")
        same_as_python(rig, ask(do="read", after=EXPIRED_S))
    assert seen["error"] == ""
    assert kills > publications / 10
    assert seen["reads"] >= required
    assert seen["sets"] >= publications / 2
    assert seen["last"] == generation
    assert seen["stale"] < 0.1 * seen["reads"]
    print(f"{kills} killed writers, {seen['reads']:,} reads, {seen['sets']:,} new sets")


def killed(rig: DynamoRig, moment: str, number: int) -> bool:
    """Publish with a writer that dies at one moment; return whether it did."""
    try:
        rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
    except Killed:
        return True
    return False
