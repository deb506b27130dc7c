"""The store on DynamoDB: one table, keys ``namespace`` and ``key``.

Retries are botocore's for throttling and broken connections, and this module's for what botocore
leaves alone: ``UnprocessedItems`` and transactions in conflict. Both end with the deadline.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from flagstore import keys
from flagstore.keys import Key, SourceState
from storesync.errors import ConditionFailedError, StoreError
from storesync.stores.base import NONCE_BYTES, Condition, Delete, Put, Write, commits, write_kb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from flagstore.keys import Record
    from storesync.deadline import Deadline
    from storesync.stores.base import Sets

BATCH_ITEMS = 25
"""DynamoDB: at most 25 items, and 16 MB, a BatchWriteItem."""
PARTITION_UNITS = 1_000
"""Write units that a partition of DynamoDB takes a second. A namespace lies in one partition."""
CONFLICTS = {"TransactionConflictException", "TransactionInProgressException"}
"""Codes of an UpdateItem, or of a transaction, that met another transaction: sent again."""
REMEDIES = {
    "AccessDeniedException": "give the function's role access to the table",
    "ResourceNotFoundException": "check FLAGSTORE_TABLE and the region",
}


def to_item(record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record in DynamoDB's typed attributes."""
    return {name: to_attribute(value) for name, value in record.items()}


def to_attribute(value: Any) -> dict[str, Any]:  # noqa: ANN401 - int, str or bytes
    """Write one value as a typed attribute."""
    if isinstance(value, bytes):
        return {"B": value}
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def from_item(item: Mapping[str, Any]) -> Record:
    """Read a record from typed attributes; what we never write is left out, fractions as well."""
    record: Record = {}
    for name, attribute in item.items():
        ((kind, value),) = attribute.items()
        if kind == "N":
            with suppress(ValueError):
                record[name] = int(value)
        elif kind in {"S", "B"}:
            record[name] = value
    return record


class DynamoDBStore:
    """Flag sets in one DynamoDB table. One instance serves one sync: it knows its deadline."""

    def __init__(self, client: DynamoDBClient, table: str, deadline: Deadline) -> None:
        self._client = client
        self._table = table
        self._deadline = deadline
        self._paid_at: dict[str, float] = {}
        """When each partition will have had the time for what was written to it."""
        self.resent = 0
        """Items that DynamoDB left unprocessed and that were sent again, for the metrics."""

    # -- reading --------------------------------------------------------------------------------

    def read(self, key: Key) -> Record | None:
        """Return one record."""
        with _store_errors(f"reading {key.namespace}"):
            reply = self._client.get_item(
                TableName=self._table, Key=to_item(key._asdict()), ConsistentRead=True
            )
        return from_item(reply["Item"]) if "Item" in reply else None

    def count_rows(self, source: str) -> None:
        """Return None: no single row is ever lost."""

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        """Yield the records of one namespace, in order of keys, page by page."""
        condition = "#n = :n" + (" AND begins_with(#k, :p)" if prefix else "")
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": {"#n": "namespace"} | ({"#k": "key"} if prefix else {}),
            "ExpressionAttributeValues": {":n": {"S": namespace}}
            | ({":p": {"S": prefix}} if prefix else {}),
        }
        while True:
            with _store_errors(f"reading {namespace}"):
                reply = self._client.query(**arguments)
            yield from map(from_item, reply["Items"])
            if "LastEvaluatedKey" not in reply:
                return
            arguments["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def state(self, source: str) -> SourceState:
        """Return the source state."""
        return SourceState.from_record(self.read(keys.state_key(source)) or {})

    # -- writing --------------------------------------------------------------------------------

    def next_token(self, source: str, floor: int) -> tuple[int, SourceState]:
        """Take the next fencing token: one UpdateItem that returns the whole source state."""
        reply = self._without_conflict(
            "issuing a fencing token",
            lambda: self._client.update_item(
                TableName=self._table,
                Key=to_item(keys.state_key(source)._asdict()),
                UpdateExpression=(
                    "SET #issued = if_not_exists(#issued, :floor) + :one, #nonce = :nonce"
                ),
                ExpressionAttributeNames={"#issued": "issued", "#nonce": "issued_nonce"},
                ExpressionAttributeValues=to_item(
                    {":floor": floor, ":one": 1, ":nonce": token_hex(NONCE_BYTES)}
                ),
                ReturnValues="ALL_NEW",
            ),
        )
        state = SourceState.from_record(from_item(reply["Attributes"]))
        return state.issued, state

    def commit(
        self, source: str, state_condition: Condition, sets: Sets, writes: Sequence[Write] = ()
    ) -> None:
        """Do it in one UpdateItem, or in one transaction where records are written as well."""
        state = self._on_state(source, state_condition, sets)
        if not writes:
            self._without_conflict("completing a check", lambda: self._client.update_item(**state))
            return
        self._pace(writes, units=2)
        step = {"Update": state} if sets else {"ConditionCheck": state}
        items: Any = [step, *map(self._action, writes)]
        self._without_conflict(
            "publishing", lambda: self._client.transact_write_items(TransactItems=items)
        )

    def put_all(self, records: Sequence[Record]) -> None:
        """Write records in batches, sending again what DynamoDB leaves unprocessed."""
        for batch in commits(map(Put, records), PARTITION_UNITS, BATCH_ITEMS):
            self._pace(batch, units=1)
            left: list[Any] = [{"PutRequest": {"Item": to_item(put.record)}} for put in batch]
            attempt = 0
            while left:
                with _store_errors("writing chunks"):
                    reply = self._client.batch_write_item(RequestItems={self._table: left})
                before, left = len(left), reply["UnprocessedItems"].get(self._table, [])
                if left:
                    self.resent += len(left)
                    attempt = 0 if len(left) < before else attempt + 1
                    self._back_off(attempt, "sending unprocessed items again")

    def _pace(self, writes: Sequence[Write], units: int) -> None:
        """Wait until the partitions have room for these writes, at so many units for each KB."""
        costs: dict[str, float] = {}
        for write in writes:
            namespace = _namespace(write)
            costs[namespace] = costs.get(namespace, 0) + units * write_kb(write) / PARTITION_UNITS
        now = self._deadline.clock.monotonic()
        # What takes more than a second's units waits for an empty partition, which is all it can.
        waits = [
            self._paid_at.get(name, now) - now - max(0.0, 1 - cost) for name, cost in costs.items()
        ]
        if (wait := max(waits, default=0.0)) > 0:
            self._deadline.wait(wait, "giving a partition of DynamoDB time")
            now += wait
        for name, cost in costs.items():
            self._paid_at[name] = max(now, self._paid_at.get(name, now)) + cost

    def _on_state(self, source: str, state_condition: Condition, sets: Sets) -> dict[str, Any]:
        """Return the arguments that hold the condition against the state and set its attributes."""
        names: dict[str, str] = {}
        values: dict[str, Any] = {}
        conditions = []
        for name, expected in state_condition.equal().items():
            names[f"#{name}"] = name
            conditions.append(_equals(name, expected, values))
        if state_condition.issued is not None:
            names["#issued"] = "issued"
            values[":least"] = to_attribute(state_condition.issued)
            conditions.append("#issued >= :least")
        if state_condition.unpinned_at is not None:
            names["#pinned"] = "pinned"
            values[":unpinned"] = to_attribute(state_condition.unpinned_at)
            conditions.append("(attribute_not_exists(#pinned) OR #pinned <= :unpinned)")
        changed = {name: value for name, value in sets.items() if value is not None}
        removed = [name for name, value in sets.items() if value is None]
        names |= {f"#{name}": name for name in sets}
        values |= {f":{name}": to_attribute(value) for name, value in changed.items()}
        arguments = {
            "TableName": self._table,
            "Key": to_item(keys.state_key(source)._asdict()),
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        update = [
            word + ", ".join(parts)
            for word, parts in (
                ("SET ", [f"#{name} = :{name}" for name in changed]),
                ("REMOVE ", [f"#{name}" for name in removed]),
            )
            if parts
        ]
        return {k: v for k, v in arguments.items() if v} | (
            {"UpdateExpression": " ".join(update)} if update else {}
        )

    def _action(self, write: Write) -> dict[str, Any]:
        if isinstance(write, Put):
            return {"Put": {"TableName": self._table, "Item": to_item(write.record)}}
        place = {"TableName": self._table, "Key": to_item(write.key._asdict())}
        if isinstance(write, Delete):
            return {"Delete": place}
        return {
            "Update": place
            | {
                # Not conditional: a chunk that is already gone leaves a stub that expires too.
                "UpdateExpression": "SET expires_at = if_not_exists(expires_at, :at)",
                "ExpressionAttributeValues": {":at": {"N": str(write.at_s)}},
            }
        }

    # -- failing --------------------------------------------------------------------------------

    def _without_conflict(self, purpose: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - botocore's answers
        attempt = 0
        while True:
            with _store_errors(purpose):
                try:
                    return call()
                except ClientError as error:
                    if not _is_conflict(error):
                        raise
            self._back_off(attempt, f"{purpose} after a conflict")
            attempt += 1

    def _back_off(self, attempt: int, purpose: str) -> None:
        self._deadline.back_off(attempt, base_s=0.05, cap_s=2.0, purpose=purpose)


def _namespace(write: Write) -> str:
    return str(write.record["namespace"]) if isinstance(write, Put) else write.key.namespace


def _equals(name: str, expected: int | str, values: dict[str, Any]) -> str:
    """Compare an attribute that is absent while it is 0 or empty."""
    if not expected:
        return f"attribute_not_exists(#{name})"
    values[f":is_{name}"] = to_attribute(expected)
    return f"#{name} = :is_{name}"


def _is_conflict(error: ClientError) -> bool:
    if error.response["Error"]["Code"] in CONFLICTS:
        return True
    codes = {reason.get("Code") for reason in _reasons(error)}
    conflicts = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
    return bool(codes & conflicts) and "ConditionalCheckFailed" not in codes


def _reasons(error: ClientError) -> list[Mapping[str, Any]]:
    reasons: list[Mapping[str, Any]] = error.response.get("CancellationReasons", [])  # type: ignore[assignment] # absent in the stubs
    return reasons


@contextmanager
def _store_errors(purpose: str) -> Iterator[None]:
    """Turn botocore's errors into ours: a lost condition with its state, anything else named."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ConditionalCheckFailedException":
            raise ConditionFailedError(_state_of(error.response.get("Item"))) from error  # type: ignore[arg-type] # absent in the stubs
        for reason in _reasons(error):
            if reason.get("Code") == "ConditionalCheckFailed":
                raise ConditionFailedError(_state_of(reason.get("Item"))) from error
        remedy = f"; {REMEDIES[code]}" if code in REMEDIES else ""
        message = f"{purpose}: DynamoDB responded {code}{remedy}"
        raise StoreError(message) from error
    except BotoCoreError as error:
        message = f"{purpose}: {type(error).__name__}"
        raise StoreError(message) from error


def _state_of(item: Mapping[str, Any] | None) -> SourceState:
    return SourceState.from_record(from_item(item or {}))
