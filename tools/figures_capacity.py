"""The generated tables of docs/capacity.md, from the layout's constants and DynamoDB's rules."""

from __future__ import annotations

from math import ceil

from bench import cost
from bench.units import READ_BYTES, WRITE_BYTES
from flagstore.cache import TTL_S
from flagstore.keys import CHUNK_BYTES, INLINE_BYTES, MAX_REPLICAS, ROW_BYTES
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
SNAPSHOT_BYTES = 500
"""Of a snapshot record beside its body: names, digests, counts."""
SIZES = (10_000, 50_000, 100_000, 200_000, INLINE_BYTES)
LARGER = (INLINE_BYTES + 1, 500_000, 800_000, 2_000_000)
REPLICAS = (1, 2, 3, MAX_REPLICAS)
STORM = 1_000
"""Environments that Lambda starts at once, for one function."""
STORM_REPLICAS = (1, 2, MAX_REPLICAS)


def snapshot_reads(body: int) -> float:
    """Return the read units of a snapshot record with this body: read eventually consistently."""
    return ceil((body + SNAPSHOT_BYTES) / READ_BYTES) / 2


def chunk_reads(body: int) -> int:
    """Return the read units of a body in chunks, beside its snapshot's: read consistently."""
    return ceil(body / READ_BYTES)


def cold_readers(body: int, replicas: int) -> int:
    """Return how many cold readers per second a set serves, in one item or in chunks."""
    if body <= INLINE_BYTES:
        return int(replicas * PARTITION_READS / snapshot_reads(body))
    # All chunks of a source have one partition key, whatever the number of snapshot records.
    return int(PARTITION_READS / chunk_reads(body))


def warm_readers(body: int, replicas: int) -> int:
    """Return how many warm readers may load a publication within one TTL."""
    return int(TTL_S * cold_readers(body, replicas))


def snapshot_writes(body: int) -> int:
    """Return the write units of one snapshot record, in a transaction."""
    return 2 * ceil((body + SNAPSHOT_BYTES) / WRITE_BYTES)


def tables() -> dict[str, str]:
    """Return the tables by name."""
    return {
        "capacity-snapshots": _snapshots(),
        "capacity-chunks": _chunks(),
        "capacity-storm": _storm(),
        "capacity-flags": _flags(),
        "capacity-writes": _writes(),
        "capacity-limits": _limits(),
    }


def _kb(size: int) -> str:
    return f"{size / 1000:,.0f} KB"


def _snapshots() -> str:
    rows = []
    for size in SIZES:
        cold = (f"{cold_readers(size, replicas):,}" for replicas in REPLICAS)
        warm = (f"{warm_readers(size, replicas):,}" for replicas in (1, MAX_REPLICAS))
        functions = f"{cold_readers(size, 1) / LAMBDA_STARTS:.1f}"
        rows.append([_kb(size), f"{snapshot_reads(size):g}", *cold, *warm, functions])
    headers = (
        "compressed set",
        "read units",
        *(f"cold/s, {replicas} snapshot{'s' * (replicas > 1)}" for replicas in REPLICAS),
        "warm, 1 snapshot",
        f"warm, {MAX_REPLICAS} snapshots",
        "functions, 1 snapshot",
    )
    return table(headers, rows, right=True)


def _chunks() -> str:
    rows = [
        [
            "300 KB and a byte" if size == INLINE_BYTES + 1 else _kb(size),
            str(ceil(size / CHUNK_BYTES)),
            f"{chunk_reads(size):,}",
            f"{cold_readers(size, 1):,}",
            f"{warm_readers(size, 1):,}",
        ]
        for size in LARGER
    ]
    headers = ("compressed set", "chunks", "read units of them", "cold/s", "warm")
    return table(headers, rows, right=True)


def _storm() -> str:
    rows = []
    for size in SIZES:
        row = [_kb(size)]
        for replicas in STORM_REPLICAS:
            end = storm(STORM, snapshot_reads(size), replicas=replicas, rate=PARTITION_READS)
            row += [f"{end.at_first:,}", f"{end.all_after_s:.0f} s"]
        rows.append(row)
    snapshots_of = [f"{replicas} snapshot{'s' * (replicas > 1)}" for replicas in STORM_REPLICAS]
    columns = [text for each in snapshots_of for text in (f"{each}: in time", "all after")]
    return table(("compressed set", *columns), rows, right=True)


def _flags() -> str:
    units = measured()
    rows = [
        [
            f"{load.flags:,}",
            f"{units[load.name].snapshot_bytes / 1000:,.0f} KB",
            f"{units[load.name].cold_reads:g}",
            f"{PARTITION_READS / units[load.name].cold_reads:,.0f}",
        ]
        for load in cost.LOADS
    ]
    return table(
        ("flags", "snapshot record", "read units", "cold readers a second"), rows, right=True
    )


def _writes() -> str:
    rows = []
    for size in SIZES:
        each = snapshot_writes(size)
        rows.append([_kb(size), f"{each:,}", f"{PARTITION_WRITES / each:.1f}"])
    headers = (
        "compressed set",
        "write units of a snapshot record",
        "publications a second",
    )
    return table(headers, rows, right=True)


def _limits() -> str:
    rows = [
        ["an item of DynamoDB", f"{ROW_BYTES:,} bytes"],
        ["a body in the snapshot record, index included, at most", f"{INLINE_BYTES:,} bytes"],
        ["a chunk of a larger body, at most", f"{CHUNK_BYTES:,} bytes"],
        ["replicas of the snapshot record", str(MAX_REPLICAS)],
        ["one transaction beside the snapshot records", f"{COMMIT_WRITES} writes, {COMMIT_KB} KB"],
    ]
    return table(("limit", "value"), rows)
