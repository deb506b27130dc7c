"""Processes of the providers' own SDKs, which evaluate flags from a store or a response."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import TYPE_CHECKING, Any

import pytest

from local import nodejs
from rigs import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import PurePath

    from rigs import AnyRig
    from simulators.redis_server import Server

    type Ask = Callable[..., Any]

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-sdks" / "bin" / "python"
NODE_FOLDER = HERE / "node"
MODULES = [str(HERE.parents[1] / "src")]
"""Where scripts find flagstore's adapters."""
TIMEOUT_S = 60


def needs_python() -> None:
    if not PYTHON.exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")


def output(
    command: list[str | PurePath], environment: Mapping[str, str] | None = None, **more: Any
) -> str:
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
        **more,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def run(
    command: list[str | PurePath], task: Mapping[str, Any], environment: Mapping[str, str]
) -> list[Any]:
    printed = output(command, environment, input=json.dumps(task))
    return [json.loads(line) for line in printed.splitlines()]


def python(sdk: str, environment: Mapping[str, str] | None = None, **task: Any) -> list[str]:
    """Evaluate by a Python SDK (see python_sdks.py); one string of JSON for each line."""
    needs_python()
    command: list[str | PurePath] = [PYTHON, "-I", HERE / "python_sdks.py"]
    return _strings(run(command, {"sdk": sdk, **task}, environment or os.environ))


def adapted(rig: AnyRig, sdk: str, **task: Any) -> tuple[list[str], list[str]]:
    """Evaluate by a Python SDK on flagstore's adapter; return lines, and all reads of the store."""
    *lines, calls = python(sdk, rig.environment(), **task, snapshot=SOURCE, path=MODULES)
    return lines, json.loads(calls)


@contextmanager
def started(command: list[str | PurePath], environment: Mapping[str, str]) -> Iterator[Ask]:
    """Start a process and give the function that sends it a task and returns its response.

    Both are JSON, on one line.
    """
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with (
        TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(command, env=environment, stderr=errors, **pipes) as process,
    ):

        def ask(**task: Any) -> Any:
            assert process.stdin
            assert process.stdout
            timer = Timer(TIMEOUT_S, process.kill)
            timer.start()
            process.stdin.write(f"{json.dumps(task)}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            timer.cancel()
            errors.seek(0)
            assert line, errors.read()[-3000:]
            return json.loads(line)

        try:
            yield ask
        finally:
            process.kill()


def node(script: str, argument: str, environment: Mapping[str, str]) -> AbstractContextManager[Ask]:
    """Start a script in node/."""
    return started([needs_node(), NODE_FOLDER / script, argument], environment)


def evaluated(ask: Ask, **task: Any) -> tuple[list[str], list[str]]:
    """Let node/evaluate.cjs evaluate; return one string of JSON a context, and its connections."""
    done = ask(**task)
    return _strings(done["results"]), done["connections"]


def needs_node() -> str:
    command = nodejs.command()
    if not command or not nodejs.MODULES.exists():
        pytest.skip("the SDKs for Node.js are missing: run `make setup-e2e`")
    return command


def documented_user(server: Server, name: str) -> str:
    """Make a user with the rights of docs/redis.md; return the user and password of a URL."""
    page = (HERE.parents[1] / "docs" / "redis.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if f" {name} " in line]
    rules = line.replace(">PASSWORD", ">tests-own").split()[3:]
    server.admin.execute_command("ACL", "SETUSER", name, "reset", *rules)
    return f"{name}:tests-own"


def _strings(lines: list[Any]) -> list[str]:
    """Return JSON: 1, 1.0 and true are equal in Python."""
    return [json.dumps(line, sort_keys=True) for line in lines]


def same(ours: list[str], theirs: list[str], contexts: list[Any]) -> None:
    """Assert that all results are equal; show the first that is not."""
    assert len(ours) == len(theirs) == len(contexts) > 0
    for mine, other, context in zip(ours, theirs, contexts, strict=True):
        assert mine == other, context
