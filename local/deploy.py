"""Deploy the real template to the stand-in with the real ``sam build`` and ``sam deploy``."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local import processes
from local.repairs import Stack, local_url, repair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from local.stand_in import StandIn

STACK_NAME = "flagstore"
SERVED = "ServeBaseUrl"
"""An output that only a stack with ServeFunction has."""
MAKE_TARGET = "make .venv-sam"
# In a folder that every build empties first.
BUILD_STAMP = Path(".aws-sam", "build", "inputs.sha256")
BUILD_LOCK = Path(".aws-sam", "lock")

BUILD_WITHIN_S = 300
DEPLOY_WITHIN_S = 120
# sam polls the stack's events every 5 s by default; the stand-in takes less than 1 s.
POLL_DELAY_S = 0.3
SAM_GRACE_S = 2.0
FAILURE_TAIL_CHARS = 6_000


class DeployError(RuntimeError):
    """A command failed or is missing; the message holds its output."""


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """The parts of a deployed stack.

    Attributes:
        webhook_base_url: URL of webhooks on the stand-in.
        table: name of the DynamoDB table.
        queue_url: SyncFunction's queue.
        dlq_url: its dead-letter queue.
        sync_function: name of SyncFunction.
        webhook_function: name of WebhookFunction.
        layer_arn: ARN of the layer's version.
        node_layer_arn: the same of the layer for Node.js.
        reader_policy_arn: ARN of FlagReaderPolicy.
        serve_base_url: URL of ServeFunction on the stand-in; empty without ``ServeFlags``.
        usage_function: ARN of UsageFunction; empty without ``CollectUsage``.

    """

    webhook_base_url: str
    table: str
    queue_url: str
    dlq_url: str
    sync_function: str
    webhook_function: str
    layer_arn: str
    node_layer_arn: str
    reader_policy_arn: str
    serve_base_url: str
    usage_function: str


def deploy(repository: Path, stand_in: StandIn, *, parameters: Mapping[str, str]) -> Deployed:
    """Build and deploy the repository's template, or update its stack.

    Args:
        repository: the folder of ``template.yaml``, with the sam command in ``.venv-sam``.
        stand_in: the running stand-in.
        parameters: values of the template's parameters.

    Raises:
        DeployError: a command failed.
        local.repairs.StackError: the deployed stack is incomplete.

    """
    build(repository)
    sam_deploy(repository, stand_in, parameters=parameters)
    return connect(stand_in)


def is_built(repository: Path) -> bool:
    """Return whether the last build is up to date with the template and ``src``."""
    return _built_from(repository) == _inputs(repository)


def build(repository: Path) -> None:
    """Run ``sam build`` into the repository's ``.aws-sam/build``, unless it is up to date.

    Raises:
        DeployError: with the command's output.

    """
    sam = _sam(repository)
    with using_build(repository, alone=True):
        # Before the build: a change during the build leads to another one.
        inputs = _inputs(repository)
        if inputs == _built_from(repository):
            return
        _run(
            [sam, "build", "--cached", "--parallel"],
            repository=repository,
            environment={**os.environ, **_sam_settings(sam)},
            within_s=BUILD_WITHIN_S,
        )
        (repository / BUILD_STAMP).write_text(inputs, encoding="ascii")


def sam_deploy(
    repository: Path,
    stand_in: StandIn,
    *,
    parameters: Mapping[str, str],
    stack_name: str = STACK_NAME,
) -> None:
    """Run ``sam deploy`` to the stand-in; other parameters keep their values.

    Raises:
        DeployError: with the command's output.

    """
    environment = stand_in.child_environment(os.environ)
    deploy_stack(
        repository,
        stack_name,
        parameters,
        options=("--region", stand_in.region, "--resolve-s3"),
        environment={**environment, "SAM_CLI_POLL_DELAY": str(POLL_DELAY_S)},
        within_s=DEPLOY_WITHIN_S,
    )


def deploy_stack(
    repository: Path,
    stack_name: str,
    parameters: Mapping[str, str],
    *,
    options: Sequence[str],
    environment: Mapping[str, str],
    within_s: float,
) -> None:
    """Run ``sam deploy`` of the last build, to the account of the environment.

    Raises:
        DeployError: with the command's output.

    """
    sam = _sam(repository)
    overrides = [f"{name}={_quoted(value)}" for name, value in parameters.items()]
    with using_build(repository):
        _run(
            [
                *(sam, "deploy", "--stack-name", stack_name, *options),
                *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"),
                *("--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"),
                *(("--parameter-overrides", *overrides) if overrides else ()),
            ],
            repository=repository,
            environment={**environment, **_sam_settings(sam)},
            within_s=within_s,
        )


def connect(stand_in: StandIn) -> Deployed:
    """Repair the stack on the stand-in, and return its parts.

    Raises:
        local.repairs.StackError: the deployed stack is incomplete.

    """
    stack = Stack.read(stand_in, STACK_NAME)
    repair(stack)
    return _find(stack)


@contextmanager
def using_build(repository: Path, *, alone: bool = False) -> Iterator[None]:
    """Lock ``.aws-sam/build``, shared or to write it (*alone*), between concurrent runs."""
    path = repository / BUILD_LOCK
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def _sam(repository: Path) -> Path:
    sam = repository / ".venv-sam" / "bin" / "sam"
    if not sam.exists():
        message = f"{sam} is missing: run `{MAKE_TARGET}` first"
        raise DeployError(message)
    return sam


def _built_from(repository: Path) -> str:
    """Return the digest of the last build's inputs, or "" if it is unknown."""
    stamp = repository / BUILD_STAMP
    return stamp.read_text(encoding="ascii") if stamp.exists() else ""


def _inputs(repository: Path) -> str:
    """Return a digest of the template and all sources.

    It saves rebuilding what has not changed: sam does not cache functions built by a makefile.
    """
    digest = hashlib.sha256()
    for path in sorted([repository / "template.yaml", *(repository / "src").rglob("*")]):
        name = path.relative_to(repository)
        cache = any(part == "__pycache__" or part.startswith(".") for part in name.parts)
        if path.is_file() and not cache:
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def function_log(stand_in: StandIn, function: str) -> str:
    """Return the log of a function, oldest line first; "" if it never ran."""
    configuration = stand_in.client("lambda").get_function_configuration(FunctionName=function)
    logs = stand_in.client("logs")
    try:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=configuration["LoggingConfig"]["LogGroup"]
        )
        return "\n".join(event["message"].rstrip() for page in pages for event in page["events"])
    except logs.exceptions.ResourceNotFoundException:
        return ""


def _sam_settings(sam: Path) -> dict[str, str]:
    return {
        # The makefile runs python3.13, which a version manager's shim may refuse.
        "PATH": f"{sam.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "SAM_CLI_TELEMETRY": "0",
    }


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _run(
    command: list[str | Path],
    *,
    repository: Path,
    environment: Mapping[str, str],
    within_s: float,
) -> None:
    """Run a sam command with an empty samconfig.toml and its own folder for temporary files.

    The repository's samconfig.toml may hold the profile and bucket of a real account.

    Raises:
        DeployError: with the command's output.

    """
    shown = f"{Path(command[0]).name} {command[1]}"
    try:
        with tempfile.TemporaryDirectory(prefix="flagstore-sam-") as folder:
            empty = Path(folder, "samconfig.toml")
            empty.write_text("version = 0.1\n", encoding="utf-8")
            with processes.running(
                [*command, "--config-file", empty],
                grace_s=SAM_GRACE_S,
                cwd=repository,
                env={**environment, "TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as sam:
                output, _ = sam.communicate(timeout=within_s)
    except subprocess.TimeoutExpired as error:
        message = f"`{shown}` took more than {within_s:g} s\n{error.output or ''}"
        raise DeployError(message) from error
    if sam.returncode:
        message = f"`{shown}` failed: {sam.returncode}\n{output[-FAILURE_TAIL_CHARS:]}"
        raise DeployError(message)


def _find(stack: Stack) -> Deployed:
    return Deployed(
        webhook_base_url=local_url(stack, "WebhookBaseUrl"),
        table=stack.output("TableName"),
        queue_url=stack.output("QueueUrl"),
        dlq_url=stack.output("DlqUrl"),
        sync_function=stack.output("SyncFunctionName"),
        webhook_function=stack.output("WebhookFunctionName"),
        layer_arn=stack.output("LayerArn"),
        node_layer_arn=stack.output("NodeLayerArn"),
        reader_policy_arn=stack.output("FlagReaderPolicyArn"),
        serve_base_url=local_url(stack, SERVED) if SERVED in stack.outputs else "",
        usage_function=stack.outputs.get("UsageFunctionArn", ""),
    )
