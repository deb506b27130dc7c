"""The store on DynamoDB: one table, keys ``namespace`` and ``key``.

botocore retries throttling and broken connections; this module retries what botocore does not:
``UnprocessedItems`` and conflicting transactions. Both stop at the deadline.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from flagstore.keys import (
    NATIVE_MARKER,
    NATIVE_SECTIONS,
    Key,
    SourceState,
    key_of,
    native_key,
    state_key,
)
from storesync.errors import ConditionFailedError, StoreError
from storesync.store import NONCE_BYTES, Condition, Delete, Put, Write, commits, write_kb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from flagstore.keys import Record
    from storesync.retry import Deadline
    from storesync.store import Sets

BATCH_ITEMS = 25
"""DynamoDB: at most 25 items, and 16 MB, per BatchWriteItem."""
PARTITION_UNITS = 1_000
"""Write units per second of a DynamoDB partition. A namespace is in one partition."""
CONFLICTS = {"TransactionConflictException", "TransactionInProgressException"}
"""Codes of an UpdateItem or transaction that conflicts with a transaction: sent again."""
CANCELLATIONS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
"""The same for the actions in a transaction."""
REMEDIES = {
    "AccessDeniedException": "give the function's role access to the table",
    "ResourceNotFoundException": "check FLAGSTORE_TABLE and the region",
}


def to_item(record: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a record to DynamoDB's typed attributes."""
    return {
        name: {"B": value}
        if isinstance(value, bytes)
        else {"S": value}
        if isinstance(value, str)
        else {"N": str(value)}
        for name, value in record.items()
    }


def from_item(item: Mapping[str, Any]) -> Record:
    """Convert typed attributes to a record, skipping types that flagstore never writes."""
    record: Record = {}
    for name, attribute in item.items():
        ((kind, value),) = attribute.items()
        if kind == "N":
            with suppress(ValueError):
                record[name] = int(value)
        elif kind in {"S", "B"}:
            record[name] = value
    return record


@dataclass(eq=False, slots=True)
class DynamoDBStore:
    """Flag sets in one DynamoDB table. One instance serves one sync and has its deadline."""

    client: DynamoDBClient
    table: str
    deadline: Deadline
    rows_at: str = ""
    """Layout and prefix of the rows; see ``Source.rows_at``."""
    resent: int = 0
    """Unprocessed items that were sent again, for the metrics."""
    paid_at: dict[str, float] = field(default_factory=dict)
    """When each partition will have capacity again after the writes so far."""

    def at(self, rows_at: str) -> DynamoDBStore:
        """Return this store with rows at another place."""
        return replace(self, rows_at=rows_at)

    def _stored(self, key: Key) -> Key:
        """Return the key under which a record is stored if the rows have a prefix."""
        if key.namespace.rpartition(":")[2] in NATIVE_SECTIONS:
            return native_key(key, self.rows_at.partition(" ")[2])
        return key

    # -- reading --------------------------------------------------------------------------------

    def foreign(self, source: str) -> Iterator[Key]:
        """Yield the rows at this place, for a source that has not written any there."""
        for section in NATIVE_SECTIONS:
            for row in self.scan(f"{source}:{section}"):
                yield key_of(row)

    def read(self, key: Key) -> Record | None:
        """Return one record, or None."""
        reply = self._call(
            f"reading {key.namespace}",
            self.client.get_item,
            TableName=self.table,
            Key=to_item(key._asdict()),
            ConsistentRead=True,
        )
        return from_item(reply["Item"]) if "Item" in reply else None

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        """Yield the records of one namespace, in order of keys, page by page."""
        stored = self._stored(Key(namespace, "")).namespace if self.rows_at else namespace
        arguments: dict[str, Any] = {
            "TableName": self.table,
            "ConsistentRead": True,
            "KeyConditionExpression": "#n = :n" + (" AND begins_with(#k, :p)" if prefix else ""),
            "ExpressionAttributeNames": {"#n": "namespace"} | ({"#k": "key"} if prefix else {}),
            "ExpressionAttributeValues": to_item(
                {":n": stored} | ({":p": prefix} if prefix else {})
            ),
        }
        while True:
            reply = self._call(f"reading {namespace}", self.client.query, **arguments)
            for record in map(from_item, reply["Items"]):
                key = namespace if namespace.endswith(f":{NATIVE_MARKER}") else record["key"]
                yield record | {"namespace": namespace, "key": key}
            if "LastEvaluatedKey" not in reply:
                return
            arguments["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def state(self, source: str) -> SourceState:
        """Return the source state."""
        return SourceState.from_record(self.read(state_key(source)) or {})

    # -- writing --------------------------------------------------------------------------------

    def next_token(self, source: str, floor: int) -> tuple[int, SourceState]:
        """Issue a fencing token: one UpdateItem that returns the whole source state."""
        nonce = token_hex(NONCE_BYTES)
        reply = self._call(
            "issuing a fencing token",
            self.client.update_item,
            TableName=self.table,
            Key=to_item(state_key(source)._asdict()),
            UpdateExpression="SET #issued = if_not_exists(#issued, :floor) + :one, #nonce = :nonce",
            ExpressionAttributeNames={"#issued": "issued", "#nonce": "issued_nonce"},
            ExpressionAttributeValues=to_item({":floor": floor, ":one": 1, ":nonce": nonce}),
            ReturnValues="ALL_NEW",
        )
        state = SourceState.from_record(from_item(reply["Attributes"]))
        return state.issued, state

    def commit(
        self, source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
    ) -> None:
        """Commit in one UpdateItem, or in one transaction if records are written as well."""
        state = self._on_state(source, condition, sets)
        if not writes:
            self._call("completing a check", self.client.update_item, **state)
            return
        self._pace(writes, units=2)
        step = {"Update": state} if sets else {"ConditionCheck": state}
        items: Any = [step, *map(self._action, writes)]
        self._call("publishing", self.client.transact_write_items, TransactItems=items)

    def put_all(self, records: Sequence[Record]) -> None:
        """Write records in batches, sending unprocessed items again."""
        for batch in commits(map(Put, records), PARTITION_UNITS, BATCH_ITEMS):
            self._pace(batch, units=1)
            left: list[Any] = [{"PutRequest": {"Item": to_item(put.record)}} for put in batch]
            attempt = 0
            while left:
                reply = self._call(
                    "writing chunks", self.client.batch_write_item, RequestItems={self.table: left}
                )
                before, left = len(left), reply["UnprocessedItems"].get(self.table, [])
                if left:
                    self.resent += len(left)
                    attempt = 0 if len(left) < before else attempt + 1
                    self._back_off(attempt, "sending unprocessed items again")

    def _pace(self, writes: Sequence[Write], units: int) -> None:
        """Wait until the partitions have capacity for these writes, at this many units per KB."""
        costs: dict[str, float] = {}
        for write in writes:
            name = str(write.record["namespace"]) if isinstance(write, Put) else write.key.namespace
            costs[name] = costs.get(name, 0) + units * write_kb(write) / PARTITION_UNITS
        now = self.deadline.clock.monotonic()
        # Writes of more than a second's units can only wait for an idle partition.
        waits = [
            self.paid_at.get(name, now) - now - max(0.0, 1 - cost) for name, cost in costs.items()
        ]
        if (wait := max(waits, default=0.0)) > 0:
            self.deadline.wait(wait, "waiting for capacity of a DynamoDB partition")
            now += wait
        for name, cost in costs.items():
            self.paid_at[name] = max(now, self.paid_at.get(name, now)) + cost

    def _on_state(self, source: str, condition: Condition, sets: Sets) -> dict[str, Any]:
        """Return the arguments to check a condition on the source state and set its attributes."""
        names: dict[str, str] = {}
        values: dict[str, Any] = {}
        conditions = []
        for name, expected in condition.equal().items():
            names[f"#{name}"] = name
            if expected:
                values[f":is_{name}"] = expected
                conditions.append(f"#{name} = :is_{name}")
            else:
                conditions.append(f"attribute_not_exists(#{name})")
        if condition.issued is not None:
            names["#issued"] = "issued"
            values[":least"] = condition.issued
            conditions.append("#issued >= :least")
        if condition.unpinned_at is not None:
            names["#pinned"] = "pinned"
            values[":unpinned"] = condition.unpinned_at
            conditions.append("(attribute_not_exists(#pinned) OR #pinned <= :unpinned)")
        names |= {f"#{name}": name for name in sets}
        changed = {name: value for name, value in sets.items() if value is not None}
        values |= {f":{name}": value for name, value in changed.items()}
        update = []
        if changed:
            update.append("SET " + ", ".join(f"#{name} = :{name}" for name in changed))
        if removed := sets.keys() - changed.keys():
            update.append("REMOVE " + ", ".join(f"#{name}" for name in sorted(removed)))
        arguments = {
            "TableName": self.table,
            "Key": to_item(state_key(source)._asdict()),
            "ConditionExpression": " AND ".join(conditions),
            "UpdateExpression": " ".join(update),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": to_item(values),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return {name: value for name, value in arguments.items() if value}

    def _action(self, write: Write) -> dict[str, Any]:
        if isinstance(write, Put):
            record = write.record
            if self.rows_at:
                record = record | self._stored(write.key)._asdict()
            return {"Put": {"TableName": self.table, "Item": to_item(record)}}
        key = self._stored(write.key) if self.rows_at else write.key
        place = {"TableName": self.table, "Key": to_item(key._asdict())}
        if isinstance(write, Delete):
            return {"Delete": place}
        # Not conditional: a chunk that is already gone leaves a stub that expires too.
        expiry = {
            "UpdateExpression": "SET expires_at = if_not_exists(expires_at, :at)",
            "ExpressionAttributeValues": to_item({":at": write.at_s}),
        }
        return {"Update": place | expiry}

    # -- errors ---------------------------------------------------------------------------------

    def _call(self, purpose: str, operation: Callable[..., Any], **arguments: Any) -> Any:  # noqa: ANN401 - botocore's
        """Call DynamoDB; send the request again after a conflict with a transaction."""
        attempt = 0
        while True:
            try:
                return operation(**arguments)
            except ClientError as error:
                if not _is_conflict(error):
                    raise _store_error(purpose, error) from error
            except BotoCoreError as error:
                message = f"{purpose}: {type(error).__name__}"
                raise StoreError(message) from error
            self._back_off(attempt, f"{purpose} after a conflict")
            attempt += 1

    def _back_off(self, attempt: int, purpose: str) -> None:
        self.deadline.back_off(attempt, base_s=0.05, cap_s=2.0, purpose=purpose)


def _reasons(error: ClientError) -> list[Mapping[str, Any]]:
    reasons: list[Mapping[str, Any]] = error.response.get("CancellationReasons", [])  # type: ignore[assignment] # absent in the stubs
    return reasons


def _is_conflict(error: ClientError) -> bool:
    if error.response["Error"]["Code"] in CONFLICTS:
        return True
    codes = {reason.get("Code") for reason in _reasons(error)}
    return bool(codes & CANCELLATIONS) and "ConditionalCheckFailed" not in codes


def _store_error(purpose: str, error: ClientError) -> StoreError:
    """Return a ConditionFailedError with the source state, or a StoreError with a remedy."""
    code = error.response["Error"]["Code"]
    failed = [error.response] if code == "ConditionalCheckFailedException" else []
    failed += [reason for reason in _reasons(error) if reason["Code"] == "ConditionalCheckFailed"]  # type: ignore[misc] # absent in the stubs
    if failed:
        item: Any = failed[0].get("Item")
        return ConditionFailedError(SourceState.from_record(from_item(item or {})))
    remedy = f"; {REMEDIES[code]}" if code in REMEDIES else ""
    return StoreError(f"{purpose}: DynamoDB responded with {code}{remedy}")
