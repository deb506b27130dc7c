"""P7: the cold start of the functions."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import functions
from bench.harness import turned
from bench.results import Part
from local.lambda_rie import RuntimeEmulator
from local.stand_in import StandIn

if TYPE_CHECKING:
    from bench.harness import Dose

MOST_OF_STOCK = 0.5
ENVIRONMENT = {
    "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
    "FLAGSTORE_TABLE": "none",
    "FLAGSTORE_QUEUE_URL": "http://127.0.0.1:9/queue",
}
INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)")


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Cold start of the functions")
    with tempfile.TemporaryDirectory() as folder:
        ours = functions.build(Path(folder) / "ours", stock=False)
        stock = functions.build(Path(folder) / "stock", stock=True)
        with StandIn() as aws:
            _init(part, dose, aws, ours, stock)
    return part


def _init(part: Part, dose: Dose, aws: StandIn, ours: Path, stock: Path) -> None:
    environment = {**aws.environment, **ENVIRONMENT}
    cases = {
        "flagstore, SyncFunction": (ours, "storesync.sync.handler"),
        "stock builder, SyncFunction": (stock, "storesync.sync.handler"),
        "flagstore, WebhookFunction": (ours, "storesync.webhook.handler"),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(dose.rounds + 1):
        for name in turned(list(cases), number):
            # No event that it knows: it refuses, once it has started.
            init = init_ms(RuntimeEmulator(*cases[name], environment), {})
            times[name] += [init] if number else []
    mine, theirs, webhook = times.values()
    title = "INIT, Runtime Interface Emulator"
    peer = "the artifact of sam's stock builder"
    part.timed(f"SyncFunction: {title}", peer, mine, theirs, most=MOST_OF_STOCK)
    part.timed(f"WebhookFunction: {title}", "SyncFunction, ours", webhook, mine)


def init_ms(emulator: RuntimeEmulator, event: object) -> float:
    """Return the INIT of a function, as Lambda reports it; it starts, and handles one event."""
    with emulator as function:
        function.invoke(event)
        found = INIT.search(function.log())
    assert found, "no INIT in the log"
    return float(found[1])
