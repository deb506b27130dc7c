"""What is measured on: stores that run here, filled by our own pipeline; compiled packages."""

from __future__ import annotations

import compileall
import contextlib
import py_compile
import shutil
import zlib
from typing import TYPE_CHECKING, Any

import node_bundle
from bench.harness import REPOSITORY, SDKS
from rigs import DynamoRig, RedisRig
from simulators import launchdarkly, split, unleash
from simulators.aws import Table, create_table
from storesync.retry import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.stand_in import StandIn
    from simulators.redis_server import Server

SITE = next((SDKS / "lib").glob("python3.*"), SDKS) / "site-packages"
ROOTS = "flagstore/stores/amazon_roots.py"
MAKERS: dict[str, Any] = {
    "launchdarkly": (launchdarkly.LaunchDarklySimulator, launchdarkly.rich_flags),
    "split": (split.SplitSimulator, split.rich_flags),
    "unleash": (unleash.UnleashSimulator, unleash.rich_flags),
}
RULED: dict[str, Callable[[Any], bool]] = {
    "launchdarkly": lambda flag: flag["on"] and flag["rules"],
    "split": lambda flag: not flag["killed"] and len(flag["conditions"]) > 1,
    "unleash": lambda flag: flag["enabled"] and any(s["constraints"] for s in flag["strategies"]),
}


@contextlib.contextmanager
def provider(name: str, count: int, **fields: Any) -> Iterator[tuple[Any, str]]:
    """Run a provider with *count* flags; gives the server and a flag that is on and has rules.

    All flags have the *fields*.
    """
    simulator, rich_flags = MAKERS[name]
    made = rich_flags(count)
    for flag in made[0].values():
        flag.update(fields)
    with simulator(*made) as server:
        yield server, next(key for key, flag in sorted(made[0].items()) if RULED[name](flag))


class NoPauses(SystemClock):
    """Skips the pauses that a partition of DynamoDB needs; the stand-in has no partitions."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        """Seconds, with what was skipped."""
        return super().monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        """Go on at once."""
        self._skipped += seconds


def new_table(aws: StandIn) -> Table:
    """Make an empty table of the store's schema."""
    client = aws.client("dynamodb")
    return Table(name=create_table(client), client=client)


def publish(aws: StandIn, name: str, count: int, **fields: Any) -> tuple[str, str]:
    """Publish *count* flags with our own pipeline; returns the table and a flag with rules.

    Beside it lies what a plain client of boto3 would read: an item with all flags, compressed.
    """
    table = new_table(aws)
    with provider(name, count, **fields) as (server, flag):
        sync(aws, table, server, name)
        # Split has no document of all flags.
        whole = b"" if name == "split" else zlib.compress(server.document())
    plain: dict[str, Any] = {"namespace": {"S": "bench"}, "key": {"S": "all"}}
    if 0 < len(whole) < 400_000:  # noqa: PLR2004 - what an item may hold
        table.client.put_item(TableName=table.name, Item={**plain, "body": {"B": whole}})
    return table.name, flag


def sync(  # noqa: PLR0913 - what a check is of
    aws: StandIn,
    table: Table,
    server: Any,
    name: str,
    *,
    client: Any = None,
    rows: bool = True,
    verify: bool = False,
) -> None:
    """Run one sync, through a client of boto3's that may count; or the one that verifies all."""
    rig = DynamoRig(aws, table, server, NoPauses(), name)
    _done(rig.sync(client, rows=rows, verify=verify))


def publish_redis(redis: Server, name: str, count: int) -> str:
    """Publish *count* flags into Redis; returns a flag with rules."""
    with provider(name, count) as (server, flag):
        _done(RedisRig(redis, server, NoPauses(), name).sync())
    return flag


def _done(report: Any) -> None:
    if report.outcome not in {"published", "unchanged"}:
        raise RuntimeError(report)


def ours(folder: Path, *, root: str = "") -> Path:
    """Copy flagstore as the layer ships it, and what ServeFunction has beside it, compiled.

    A *root* takes the place of the first of Amazon's, which are the only ones that a reader trusts
    without reading the system's store.
    """
    copy = folder / "ours"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("flagstore", "flagserve"):
        shutil.copytree(REPOSITORY / "src" / package, copy / package, ignore=ignored)
    if root:
        module = copy / ROOTS
        _, end, others = module.read_text(encoding="ascii").partition("END CERTIFICATE-----\n")
        assert end
        module.write_text(f'PEM = """\\\n{root.strip()}\n{others}', encoding="ascii")
    compileall.compile_dir(
        copy, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    return copy


def node(folder: Path, *, root: str) -> Path:
    """Copy flagstore for Node.js as its layer ships it, trusting a *root* as above."""
    packages = folder / "nodejs"
    shutil.copytree(REPOSITORY / "src" / "node", packages / "flagstore")
    module = packages / "flagstore" / "lib" / "amazon_roots.js"
    begin, others = module.read_text(encoding="utf-8").split("END CERTIFICATE-----\n", 1)
    begin = begin.partition("-----BEGIN")[0]
    module.write_text(f"{begin}{root.strip()}\n{others}", encoding="utf-8")
    node_bundle.bundle(packages / "flagstore")
    return packages


def roots(packages: Path) -> str:
    """Return what such a copy trusts, as PEM."""
    return (packages / ROOTS).read_text(encoding="ascii").split('"""')[-2].lstrip("\\\n")
