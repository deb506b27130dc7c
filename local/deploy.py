"""Deploy the real template to the stand-in: real ``sam build``, real ``sam deploy``.

``deploy`` does all of it; its steps are public for whoever wants to show them one by one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local import processes
from local.repairs import Stack, local_url, repair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from local.stand_in import StandIn

    type Progress = Callable[[str], None]

STACK_NAME = "flagstore"
MAKE_TARGET = "make .venv-sam"
# In the folder that every build empties first, so it never speaks of an older one.
BUILD_STAMP = Path(".aws-sam", "build", "inputs.sha256")
BUILD_LOCK = Path(".aws-sam", "lock")

BUILD_WITHIN_S = 300
DEPLOY_WITHIN_S = 120
# sam looks at the stack's events every 5 s unless told otherwise; the stand-in takes less than 1 s.
POLL_DELAY_S = 0.3
SAM_GRACE_S = 2.0
FAILURE_TAIL_CHARS = 6_000


class DeployError(RuntimeError):
    """A command failed or is missing; the text holds its output."""


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """Where to find the parts of a deployed stack.

    Attributes:
        webhook_base_url: as the stack's output, but leading to the stand-in.
        table: the DynamoDB table's name.
        queue_url: the queue that feeds the sync function.
        dlq_url: where that queue's messages go after their last try.
        sync_function: the function's name.
        webhook_function: the function's name.
        layer_arn: the layer's ARN, with its version.
        reader_policy_arn: the managed policy for whoever reads flags.

    """

    webhook_base_url: str
    table: str
    queue_url: str
    dlq_url: str
    sync_function: str
    webhook_function: str
    layer_arn: str
    reader_policy_arn: str


def deploy(
    repository: Path,
    stand_in: StandIn,
    *,
    parameters: Mapping[str, str],
    progress: Progress,
) -> Deployed:
    """Build and deploy *repository*'s template to *stand_in*, again over a stack that is there.

    Args:
        repository: the folder of ``template.yaml``; its ``.venv-sam`` holds the sam command.
        stand_in: a running emulator.
        parameters: values for the template's parameters.
        progress: gets one line per finished step, with its seconds.

    Raises:
        DeployError: a step failed.
        local.repairs.StackError: the deployed stack lacks something.

    """
    if is_built(repository):
        progress("sam build: nothing changed since the last one")
    else:
        with _timed(progress, "sam build"):
            build(repository)
    with _timed(progress, "sam deploy"):
        sam_deploy(repository, stand_in, parameters=parameters)
    with _timed(progress, "HTTP API routes (stand-in only)"):
        return connect(stand_in)


def is_built(repository: Path) -> bool:
    """Say whether the last build was made from what the template and ``src`` are now."""
    return _built_from(repository) == _inputs(repository)


def build(repository: Path) -> None:
    """Run ``sam build`` into the repository's ``.aws-sam/build``, unless it is up to date.

    Raises:
        DeployError: with the command's output.

    """
    sam = _sam(repository)
    with using_build(repository, alone=True):
        # Before the build: what changes meanwhile may be in it or not, and is built again.
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
    """Run ``sam deploy`` to the stand-in; parameters that are not named keep their values.

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
    """Run ``sam deploy`` of the last build, wherever the environment leads.

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
    """Make up for what the stand-in's CloudFormation leaves out, and return where everything is.

    Raises:
        local.repairs.StackError: the deployed stack lacks something.

    """
    stack = Stack.read(stand_in, STACK_NAME)
    repair(stack)
    return _find(stack)


@contextmanager
def using_build(repository: Path, *, alone: bool = False) -> Iterator[None]:
    """Keep ``.aws-sam/build`` as it is meanwhile; *alone*: to change it.

    Runs side by side, such as `make run` beside `make test`, take turns.
    """
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
    """Return the digest of what the last build was made from; empty if that is not known."""
    stamp = repository / BUILD_STAMP
    return stamp.read_text(encoding="ascii") if stamp.exists() else ""


def _inputs(repository: Path) -> str:
    """Return a digest of the template and of all sources, as 64 hexadecimal digits.

    sam keeps no function that a makefile builds, and makes all of them again every time. This is
    what saves the seconds when nothing changed.
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
    """Return what a function wrote to its log group, oldest line first; empty if it never ran."""
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
        # The makefile targets call python3.13: its virtual environment has one in any case, a
        # version manager's shim on the PATH may refuse.
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
    """Run a sam command, with a folder of its own for its settings and for what it leaves behind.

    `sam deploy --guided` saves a profile and a bucket in samconfig.toml: right for the person's
    own account, wrong here. There is no switch to skip the file, only another file. And each
    deployment leaves some folders among the temporary files.

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


@contextmanager
def _timed(progress: Progress, step: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    progress(f"{step}: {time.monotonic() - started:.1f} s")


def _find(stack: Stack) -> Deployed:
    return Deployed(
        webhook_base_url=local_url(stack),
        table=stack.output("TableName"),
        queue_url=stack.output("QueueUrl"),
        dlq_url=stack.output("DlqUrl"),
        sync_function=stack.output("SyncFunctionName"),
        webhook_function=stack.output("WebhookFunctionName"),
        layer_arn=stack.output("LayerArn"),
        reader_policy_arn=stack.output("FlagReaderPolicyArn"),
    )
