"""The generated tables of docs/capacity.md, from the layout's constants and DynamoDB's rules."""

from __future__ import annotations

from math import ceil

from bench import cost
from bench.units import READ_BYTES, WRITE_BYTES
from flagstore.layout import INLINE_BYTES, MAX_REPLICAS, PIECE_BYTES, ROW_BYTES
from flagstore.loading import TTL_S
from storesync.stores.base import COMMIT_KB, COMMIT_WRITES
from tools.figures_cost import measured
from tools.markdown import table
from tools.storm import storm

PARTITION_READS = 3_000
"""Read units a second of one partition (AWS: "Best practices for designing partition keys")."""
PARTITION_WRITES = 1_000
LAMBDA_STARTS = 100
"""Execution environments that one function can add a second for long (AWS: "Lambda scaling
behavior": 1,000 every 10 s)."""
HEAD_BYTES = 500
"""Of a head beside its body: names, digests, counts."""
SIZES = (10_000, 50_000, 100_000, 200_000, INLINE_BYTES)
LARGER = (INLINE_BYTES + 1, 500_000, 800_000, 2_000_000)
REPLICAS = (1, 2, 3, MAX_REPLICAS)
STORM = 1_000
"""Environments that Lambda starts at once, for one function."""
STORM_HEADS = (1, 2, MAX_REPLICAS)


def head_reads(body: int) -> float:
    """Return the read units of a head with this body: read eventually consistently."""
    return ceil((body + HEAD_BYTES) / READ_BYTES) / 2


def piece_reads(body: int) -> int:
    """Return the read units of a body in pieces, beside its head's: read consistently."""
    return ceil(body / READ_BYTES)


def cold_readers(body: int, replicas: int) -> int:
    """Return how many cold readers a second a set serves, of a body in the head or in pieces."""
    if body <= INLINE_BYTES:
        return int(replicas * PARTITION_READS / head_reads(body))
    # All pieces of a source have one partition key, whatever the number of heads.
    return int(PARTITION_READS / piece_reads(body))


def warm_readers(body: int, replicas: int) -> int:
    """Return how many warm readers may load a publication within one TTL."""
    return int(TTL_S * cold_readers(body, replicas))


def head_writes(body: int) -> int:
    """Return the write units of one head, in a transaction."""
    return 2 * ceil((body + HEAD_BYTES) / WRITE_BYTES)


def tables() -> dict[str, str]:
    """Return the tables by name."""
    return {
        "capacity-heads": _heads(),
        "capacity-pieces": _pieces(),
        "capacity-storm": _storm(),
        "capacity-flags": _flags(),
        "capacity-writes": _writes(),
        "capacity-limits": _limits(),
    }


def _kb(size: int) -> str:
    return f"{size / 1000:,.0f} KB"


def _heads() -> str:
    rows = []
    for size in SIZES:
        cold = (f"{cold_readers(size, replicas):,}" for replicas in REPLICAS)
        warm = (f"{warm_readers(size, replicas):,}" for replicas in (1, MAX_REPLICAS))
        functions = f"{cold_readers(size, 1) / LAMBDA_STARTS:.1f}"
        rows.append([_kb(size), f"{head_reads(size):g}", *cold, *warm, functions])
    heads = (
        "compressed set",
        "read units",
        *(f"cold/s, {replicas} head{'s' * (replicas > 1)}" for replicas in REPLICAS),
        "warm, 1 head",
        f"warm, {MAX_REPLICAS} heads",
        "functions, 1 head",
    )
    return table(heads, rows, right=True)


def _pieces() -> str:
    rows = [
        [
            "300 KB and a byte" if size == INLINE_BYTES + 1 else _kb(size),
            str(ceil(size / PIECE_BYTES)),
            f"{piece_reads(size):,}",
            f"{cold_readers(size, 1):,}",
            f"{warm_readers(size, 1):,}",
        ]
        for size in LARGER
    ]
    heads = ("compressed set", "pieces", "read units of them", "cold/s", "warm")
    return table(heads, rows, right=True)


def _storm() -> str:
    rows = []
    for size in SIZES:
        row = [_kb(size)]
        for heads in STORM_HEADS:
            end = storm(STORM, head_reads(size), heads=heads, rate=PARTITION_READS)
            row += [f"{end.at_first:,}", f"{end.all_after_s:.0f} s"]
        rows.append(row)
    heads_of = [f"{heads} head{'s' * (heads > 1)}" for heads in STORM_HEADS]
    columns = [text for head in heads_of for text in (f"{head}: in time", "all after")]
    return table(("compressed set", *columns), rows, right=True)


def _flags() -> str:
    units = measured()
    rows = [
        [
            f"{load.flags:,}",
            f"{units[load.name].head_bytes / 1000:,.0f} KB",
            f"{units[load.name].cold_reads:g}",
            f"{PARTITION_READS / units[load.name].cold_reads:,.0f}",
        ]
        for load in cost.LOADS
    ]
    return table(("flags", "head", "read units", "cold readers a second"), rows, right=True)


def _writes() -> str:
    rows = []
    for size in SIZES:
        each = head_writes(size)
        rows.append([_kb(size), f"{each:,}", f"{PARTITION_WRITES / each:.1f}"])
    heads = ("compressed set", "write units of a head", "publications a second")
    return table(heads, rows, right=True)


def _limits() -> str:
    rows = [
        ["an item of DynamoDB", f"{ROW_BYTES:,} bytes"],
        ["a body in the head, index included, at most", f"{INLINE_BYTES:,} bytes"],
        ["a piece of a larger body, at most", f"{PIECE_BYTES:,} bytes"],
        ["heads", str(MAX_REPLICAS)],
        ["one transaction beside the heads", f"{COMMIT_WRITES} writes, {COMMIT_KB} KB"],
    ]
    return table(("limit", "value"), rows)
