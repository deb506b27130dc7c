"""Where a deployment's parts are: from a stack's outputs, or from environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from storesync.cli.problems import Exit, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_STACK = "flagstore"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment. What is empty is not known, and only some commands need it."""

    name: str
    """For people: ``stack flagstore``, or ``the environment``."""
    table: str
    prefix: str
    queue_url: str = ""
    dlq_url: str = ""
    webhook_base_url: str = ""
    sync_function: str = ""
    replicas: int = 1

    def needs(self, field: str, what: str) -> str:
        """Return a part that not every deployment tells.

        Raises:
            Problem: if this one does not.
        """
        value: str = getattr(self, field)
        if not value:
            remedy = f"name the stack with --stack, or set {_VARIABLES[field]}"
            raise Problem(Exit.CONFIGURATION, f"{what} is not known", remedy)
        return value


_VARIABLES = {
    "table": "FLAGSTORE_TABLE",
    "prefix": "FLAGSTORE_PARAMETER_PREFIX",
    "queue_url": "FLAGSTORE_QUEUE_URL",
    "dlq_url": "FLAGSTORE_DLQ_URL",
    "webhook_base_url": "FLAGSTORE_WEBHOOK_BASE_URL",
    "sync_function": "FLAGSTORE_SYNC_FUNCTION",
}
_NEEDED = ("table", "prefix")
"""What every command needs; a variable for either of them means the environment, not a stack."""
_OUTPUTS = {
    "table": "TableName",
    "queue_url": "QueueUrl",
    "dlq_url": "DlqUrl",
    "webhook_base_url": "WebhookBaseUrl",
    "sync_function": "SyncFunctionName",
}


def find(stack: str | None, environ: Mapping[str, str], formation: Any) -> Deployment:  # noqa: ANN401 - no stubs
    """Find the deployment: the stack that is named, else the environment's, else the default.

    *formation* makes a client of CloudFormation, which variables alone do not need.

    Raises:
        Problem: if there is no such stack, or a variable is missing or wrong.
    """
    if stack is None and any(environ.get(_VARIABLES[field]) for field in _NEEDED):
        return from_environment(environ)
    return from_stack(stack or DEFAULT_STACK, formation())


def from_environment(environ: Mapping[str, str]) -> Deployment:
    """Read what variables say; the table and the prefix of the parameters at least.

    Raises:
        Problem: names the variables that are missing or wrong.
    """
    values = {field: environ.get(name, "") for field, name in _VARIABLES.items()}
    missing = [_VARIABLES[field] for field in _NEEDED if not values[field]]
    if missing:
        what = f"{' and '.join(missing)} is not set"
        raise Problem(Exit.CONFIGURATION, what, "set it, or name the stack with --stack")
    if not values["prefix"].startswith("/") or values["prefix"].endswith("/"):
        what = f"{_VARIABLES['prefix']} must start with '/' and not end with it"
        raise Problem(Exit.CONFIGURATION, what, "write it as the stack has it, such as /flagstore")
    replicas = _replicas(
        "FLAGSTORE_SNAPSHOT_REPLICAS", environ.get("FLAGSTORE_SNAPSHOT_REPLICAS") or "1"
    )
    return Deployment(name="the environment", **values, replicas=replicas)


def from_stack(stack: str, formation: Any) -> Deployment:  # noqa: ANN401 - no stubs
    """Read the outputs and parameters of a stack.

    Raises:
        Problem: if there is none, or it is not one of ours.
    """
    try:
        found = formation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        what = f"there is no stack {stack!r} in region {formation.meta.region_name}"
        remedy = (
            "name yours with --stack and --region (`aws cloudformation list-stacks`), "
            "or set FLAGSTORE_TABLE and FLAGSTORE_PARAMETER_PREFIX"
        )
        raise Problem(Exit.NOT_FOUND, what, remedy) from None
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())}
    given = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}
    missing = [name for name in _OUTPUTS.values() if name not in outputs]
    if missing or "ParameterPrefix" not in given:
        what = f"stack {stack!r} is not one of flagstore's, or was never deployed whole"
        remedy = "look at its events (`sam deploy` again), or name another with --stack"
        raise Problem(Exit.CONFIGURATION, what, remedy)
    return Deployment(
        name=f"stack {stack}",
        prefix=given["ParameterPrefix"],
        replicas=_replicas("SnapshotReplicas", given.get("SnapshotReplicas", "1")),
        **{field: outputs[name] for field, name in _OUTPUTS.items()},
    )


def _replicas(name: str, text: str) -> int:
    """Read the number of the snapshot's replicas, from a variable or parameter of that name."""
    if text.isdecimal() and 1 <= int(text) <= 5:  # noqa: PLR2004 - as in template.yaml
        return int(text)
    raise Problem(Exit.CONFIGURATION, f"{name} must be a number from 1 to 5")
