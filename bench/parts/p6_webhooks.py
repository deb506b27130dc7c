"""P6: what a webhook costs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import functions, world
from bench.harness import REPOSITORY
from bench.results import Part
from local.stand_in import StandIn
from simulators.deployment import SECRET, signed
from simulators.launchdarkly import audit_entry
from simulators.launchdarkly_flags import new_flag
from simulators.server import compact

if TYPE_CHECKING:
    from bench.harness import Dose

SCRIPT = REPOSITORY / "bench" / "writers" / "receive.py"
PYTHON = REPOSITORY / ".venv-lambda" / "bin" / "python"
NAIVE = "a handler that fetches and puts at each webhook"
REQUESTS = 220
FLAGS = 500
MOST_CPU_MS = 5.0


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Webhooks: LaunchDarkly's, signed, 500 flags behind them")
    _requests(part, dose)
    part.notes.append(
        "WebhookFunction's calls go to the emulator, so its wall time does not carry over to "
        "AWS; its CPU time includes boto3's."
    )
    return part


def _requests(part: Part, dose: Dose) -> None:
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "naive": []}
    with StandIn() as aws, tempfile.TemporaryDirectory() as folder:
        artefact = functions.build(Path(folder) / "build", stock=False)
        file = Path(folder) / "events.json"
        file.write_text(json.dumps([_event(number) for number in range(REQUESTS)]))
        with world.provider("launchdarkly", FLAGS) as (server, _):
            environment = _environment(aws, server, artefact)
            for _ in range(dose.rounds):
                for kind, found in runs.items():
                    url = f"{server.url}/sdk/latest-all"
                    found.append(_run([kind, str(file), url], environment))
    for name, work, goal in (
        ("cpu", "CPU of a warm request", MOST_CPU_MS),
        ("ms", "time of a warm request", None),
        ("cold_cpu", "CPU from import to the first response", None),
        ("cold_ms", "time from import to the first response", None),
    ):
        ours, theirs = ([run[name] for run in runs[kind]] for kind in ("ours", "naive"))
        part.timed(work, NAIVE, ours, theirs)
        if goal:
            worst = statistics.median(ours)
            part.counted(
                work, "", f"{worst:.2f} ms", goal=f"at most {goal:g} ms", met=worst <= goal
            )


def _event(number: int) -> Any:
    flag = {**new_flag("new-checkout"), "version": number + 2}
    told = audit_entry(
        "flag",
        "new-checkout",
        "updateOn",
        number=number,
        date_ms=1_795_000_000_000 + number,
        before=flag,
        after=flag,
    )
    return signed("prod", compact(told))


def _environment(aws: StandIn, server: Any, artefact: Path) -> dict[str, str]:
    """Make what the receiver needs: a queue, a webhook's parameter, a table for the other one."""
    prefix = f"/flagstore/{uuid.uuid4().hex}"
    webhook = {
        "provider": "launchdarkly",
        "secrets": [SECRET],
        "options": {"project": "shop", "environment": "production"},
    }
    aws.client("ssm").put_parameter(
        Name=f"{prefix}/webhooks/prod", Value=json.dumps(webhook), Type="SecureString"
    )
    queue = aws.client("sqs").create_queue(QueueName=f"requests-{uuid.uuid4().hex}")["QueueUrl"]
    return {
        **aws.child_environment({"PATH": os.defpath}),
        "PYTHONPATH": str(artefact),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FLAGSTORE_PARAMETER_PREFIX": prefix,
        "FLAGSTORE_QUEUE_URL": queue,
        "FLAGSTORE_TABLE": world.new_table(aws).name,
        "POWERTOOLS_SERVICE_NAME": "flagstore",
        "SECRET": SECRET,
        "SDK_KEY": server.sdk_key,
    }


def _run(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    command = [str(PYTHON), str(SCRIPT), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
