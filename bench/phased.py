"""Readers in phases, over TLS: INIT with a whole core, then requests with a function's share."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trustme

from bench import shares, world
from bench.harness import turned
from local import certificates
from local.relay import Relay
from local.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.harness import Case

ROUND_TRIP_S = 0.004
"""Between a reader and its store: what a network of AWS adds to a stand-in on this machine."""


class Request(NamedTuple):
    """One evaluation."""

    ms: float
    cpu_ms: float
    stale: bool
    value: str


class Run(NamedTuple):
    """One process."""

    init_ms: float
    requests: list[Request]


class OverTls:
    """A stand-in for AWS behind TLS, packages, and relays for whatever else is read.

    Attributes:
        aws: the stand-in; its round trips take some milliseconds.
        ours: flagstore as the layer ships it. In the place of one of Amazon's roots it has the one
            that signs here: on AWS, too, a reader finds the issuer among five.
        root: that root, as PEM.
        environment: what a reader is given to reach the stand-in and to trust its certificate.

    """

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._ca = trustme.CA(key_type=trustme.KeyType.RSA)  # as Amazon Root CA 1, which signs most
        self.aws: StandIn = stack.enter_context(StandIn(ca=self._ca, delay_s=ROUND_TRIP_S))
        self.root = self._ca.cert_pem.bytes().decode()
        self.ours = world.ours(folder, root=self.root)
        five = folder / "five.pem"
        five.write_text(world.roots(self.ours), encoding="ascii")
        self.environment = {
            **self.aws.child_environment({}),
            "FIVE_ROOTS": str(five),
            "REQUESTS_CA_BUNDLE": self.aws.trust["AWS_CA_BUNDLE"],
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
        }

    def relay(self, port: int, *names: str) -> int:
        """Return a port with TLS, as far away as the stand-in, that leads to a plain one."""
        tls = certificates.server_context(self._ca.issue_cert(*certificates.NAMES, *names))
        relay = Relay(port, tls=tls, delay_s=ROUND_TRIP_S)
        return self._stack.enter_context(relay).port


@contextmanager
def over_tls(folder: str) -> Iterator[OverTls]:
    """Run a stand-in behind TLS, and whatever is added to it."""
    with ExitStack() as stack:
        yield OverTls(stack, Path(folder))


def run(
    case: Case,
    share: shares.Share | None = None,
    *,
    requests: int = 1,
    before: Callable[[int], None] = lambda _: None,
) -> Run:
    """Run a script of ``bench/readers``: INIT with a whole core, then requests with a share.

    Args:
        case: the script, its packages and its environment.
        share: what the process enters after INIT; None leaves it the whole machine.
        requests: how many.
        before: called before each request, with its number.

    Raises:
        RuntimeError: if the script fails.
    """
    process = subprocess.Popen(
        case.command(),
        env=case.variables(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    with process:
        init = process.stdout.readline()
        if share and init:
            share.add(process.pid)
        made = []
        for number in range(requests):
            before(number)
            process.stdin.write("\n")
            process.stdin.flush()
            ms, cpu_ms, stale, value = (process.stdout.readline().split(" ", 3) + 4 * [""])[:4]
            made.append(
                Request(float(ms or "nan"), float(cpu_ms or "nan"), stale == "1", value.strip())
            )
        process.stdin.close()
        process.wait(60)
    if process.returncode:
        message = f"{case.name} failed"
        raise RuntimeError(message)
    return Run(float(init), made)


def rounds(
    cases: Sequence[Case], count: int, share: shares.Share | None = None
) -> dict[str, list[Run]]:
    """Run all cases once a round; the first round only warms the disk, and is not counted."""
    found: dict[str, list[Run]] = {case.name: [] for case in cases}
    for number in range(count + 1):
        order = turned(cases, number)
        runs = [run(case, share) for case in order]
        agree(order, runs)
        for case, made in zip(order, runs, strict=True):
            found[case.name] += [made] if number else []
    return found


def wholes(runs: Sequence[Run]) -> list[float]:
    """Return the milliseconds of each process from its start to its first evaluation."""
    return [each.init_ms + each.requests[0].ms for each in runs]


@contextmanager
def at_shares() -> Iterator[dict[int, shares.Share | None]]:
    """Give a share per size of memory; where quotas cannot be set, the whole machine alone."""
    with ExitStack() as stack:
        if shares.settable():
            yield {shares.WHOLE: None}
        else:
            yield {size: stack.enter_context(shares.share(size)) for size in shares.MEMORIES}


def skipped() -> list[str]:
    """Return a note if shares are skipped on this machine."""
    why = shares.settable()
    return [f"Shares of a CPU are skipped: quotas cannot be set here ({why})."] if why else []


def agree(cases: Sequence[Case], runs: Sequence[Run]) -> None:
    """See that all evaluate to the same: who is fast with another value has measured nothing.

    Raises:
        RuntimeError: if they do not. A case that evaluates nothing says None.
    """
    said = {run.requests[0].value for run in runs} - {"None"}
    if len(said) > 1:
        message = f"the cases disagree: {dict(zip([c.name for c in cases], runs, strict=True))}"
        raise RuntimeError(message)
