"""Records of UsageFunction in the table: taken usage lines, and when each flag was last used.

Both are in the table also for sources in Redis.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import chain
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from flagstore.codec import dumps
from flagstore.keys import key_of, usage_claim_key, usage_namespace
from storesync.errors import StoreError
from storesync.store import NONCE_BYTES, Condition, Delete, commits, record_bytes
from storesync.stores.dynamodb import from_item, to_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from flagstore.keys import Record
    from storesync.model import Clock
    from storesync.store import Store
    from storesync.usage_lines import AnyLine, Cell

DAY_S = 86_400
CLAIMED_S = 16 * DAY_S
"""How long a line is remembered. CloudWatch and Lambda deliver it again for 30 hours at most; then
it may be a dead letter for 14 days.
"""
KEPT_S = 400 * DAY_S
"""How long after its last use a flag's record is kept."""
WRITTEN_S = 3_600
"""How much later a use must be than the recorded one to be recorded."""
MAX_VARIANTS = 50
MAX_FLAGS = 20_000
"""Per source. Names of flags in Redis are not checked, and a line may be made up."""
ATTEMPTS = 3
"""To record a use while other processes record theirs."""
APP = "app:"
"""Begins the names of claims that contain an application's name; no line's id contains a colon."""


@dataclass(frozen=True, slots=True)
class UsageRecords:
    """The records that UsageFunction may write, by a few conditional writes of single items each.

    All raise StoreError if the table fails.
    """

    client: DynamoDBClient
    table: str
    clock: Clock
    _uses: dict[str, dict[str, Use]] = field(default_factory=dict)
    """Source → flag → its last use, as recorded when this process last looked."""

    # -- claims -----------------------------------------------------------------------------------

    def claim(self, source: str, lines: Sequence[AnyLine]) -> list[AnyLine]:
        """Return the lines that have not been claimed before, and are now."""
        taken: list[AnyLine] = []
        try:
            taken.extend(line for line in lines if self.claim_name(source, line.id))
        except StoreError:
            self.release(source, taken)
            raise
        return taken

    def claim_name(self, source: str, name: str) -> bool:
        """Claim one name; return whether it was free."""
        owner, now = token_hex(NONCE_BYTES), int(self.clock.now())
        key = usage_claim_key(source, name)._asdict()
        found = self._put(
            {**key, "owner": owner, "expires_at": now + CLAIMED_S},
            "attribute_not_exists(#key) OR expires_at < :now",
            {":now": now},
        )
        # The client may have sent it twice.
        return found is None or found.get("owner") == owner

    def release(self, source: str, lines: Iterable[AnyLine]) -> None:
        """Free claimed lines, which were not reported, for another attempt."""
        for line in lines:
            self._put({**usage_claim_key(source, line.id)._asdict(), "expires_at": 1})

    # -- last use ---------------------------------------------------------------------------------

    def record_use(self, source: str, seen: Mapping[str, Mapping[str, int]]) -> None:
        """Record when each variant of some flags was used, to the hour; repetitions are harmless.

        *seen*: flag → variant → time in seconds since the epoch.
        """
        if source not in self._uses:
            self._uses[source] = dict(self.uses(source))
        known = self._uses[source]
        for flag, variants in seen.items():
            if flag not in known and len(known) >= MAX_FLAGS:
                continue
            for _ in range(ATTEMPTS):
                old = known.get(flag)
                use = (old or Use(min(variants.values()), {})).with_times(variants)
                if old is not None and not use.is_news_to(old):
                    break
                found = self._put(use.to_record(source, flag), *_unchanged(old))
                if found is None:
                    known[flag] = use
                    break
                if found:
                    known[flag] = Use.from_record(found)
                else:  # deleted since, by a purge
                    known.pop(flag, None)

    def uses(self, source: str) -> Iterator[tuple[str, Use]]:
        """Yield each flag that was used, and its last use."""
        arguments: dict[str, Any] = {
            "TableName": self.table,
            "KeyConditionExpression": "#n = :n",
            "ExpressionAttributeNames": {"#n": "namespace"},
            "ExpressionAttributeValues": to_item({":n": usage_namespace(source)}),
        }
        while True:
            try:
                reply = self.client.query(**arguments)
            except (BotoCoreError, ClientError) as error:
                raise StoreError(f"reading the flags' last use: {error}") from error
            for record in map(from_item, reply["Items"]):
                yield str(record["key"]), Use.from_record(record)
            if "LastEvaluatedKey" not in reply:
                return
            arguments["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def _put(
        self, record: Record, condition: str = "", values: Mapping[str, Any] | None = None
    ) -> Record | None:
        """Write a record; if the condition does not hold, return the present one instead."""
        arguments: dict[str, Any] = {"TableName": self.table, "Item": to_item(record)}
        if condition:
            arguments |= {
                "ConditionExpression": condition,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
            if "#key" in condition:
                arguments["ExpressionAttributeNames"] = {"#key": "key"}
            if values:
                arguments["ExpressionAttributeValues"] = to_item(values)
        try:
            self.client.put_item(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                found: Any = error.response.get("Item", {})
                return from_item(found)
            raise StoreError(f"recording usage: {error}") from error
        except BotoCoreError as error:
            raise StoreError(f"recording usage: {type(error).__name__}") from error
        return None


class Use(NamedTuple):
    """When a flag was used, in seconds since the epoch."""

    first: int
    variants: Mapping[str, int]
    """Variant → its last use."""

    @property
    def last(self) -> int:
        """The last use of any variant."""
        return max(self.variants.values(), default=0)

    def with_times(self, seen: Mapping[str, int]) -> Use:
        """Return this use with later times."""
        times = dict(self.variants)
        for variant, at in seen.items():
            if variant in times or len(times) < MAX_VARIANTS:
                times[variant] = max(at, times.get(variant, 0))
        return Use(self.first, times)

    def is_news_to(self, old: Use) -> bool:
        """Return whether it is so much later than *old* that it is worth a write."""
        return any(
            at - old.variants.get(variant, -WRITTEN_S) >= WRITTEN_S
            for variant, at in self.variants.items()
        )

    def to_record(self, source: str, flag: str) -> Record:
        """Return the record of a flag."""
        return {
            "namespace": usage_namespace(source),
            "key": flag,
            "last_used": self.last,
            "first_used": self.first,
            "variants": dumps(self.variants),
            "expires_at": self.last + KEPT_S,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Use:
        """Read a record."""
        return cls(record.get("first_used", 0), json.loads(record.get("variants", "{}")))


def _unchanged(old: Use | None) -> tuple[str, dict[str, Any]]:
    """Return the condition that a flag's record is still as it was."""
    if old is None:
        return "attribute_not_exists(#key)", {}
    return "variants = :variants", {":variants": dumps(old.variants)}


def delete_records(source: str, table: Store) -> None:
    """Delete when a source's flags were used, and the names of applications.

    Ids of claimed lines stay until they expire: they are random, and without them a line that comes
    again would be counted twice if the source is added again.

    Raises:
        ConditionFailedError: if the source was published to the table meanwhile.
    """
    state = table.state(source)  # none for a source in Redis
    condition = Condition(token=state.token, check_nonce=state.check_nonce)
    names = table.scan(*usage_claim_key(source, APP))
    records = chain(table.scan(usage_namespace(source)), names)
    deletes = [Delete(key_of(record), record_bytes(record)) for record in records]
    for group in filter(None, commits(deletes)):
        table.commit(source, condition, {}, group)


def last_uses(lines: Iterable[AnyLine]) -> dict[str, dict[str, int]]:
    """Return flag → variant → its last use in some lines. Unknown flags are left out."""
    seen: dict[str, dict[str, int]] = {}
    for line in lines:
        for flag, cells in line.flags.items():
            for cell in cells:
                if (name := variant_name(line.provider, cell)) is not None:
                    times = seen.setdefault(flag, {})
                    times[name] = max(line.last, times.get(name, 0))
    return seen


def variant_name(provider: str, cell: Cell) -> str | None:
    """Return the name of a cell's result; None for an unknown flag.

    LaunchDarkly: number of the variation, or ``default``. Split: the treatment. Others: the
    variant, or ``on`` and ``off``.
    """
    if provider == "launchdarkly":
        if cell.detail is None:
            return None
        return "default" if cell.result is None else str(cell.result)
    if provider == "split":
        return str(cell.result)
    return cell.detail or ("on" if cell.result else "off")
