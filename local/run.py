"""``make run``: the whole application on this machine, with nothing left behind.

It deploys the template to the stand-in for AWS, sync requests with a simulated provider, and reads
the flags in another process (``demo``), from DynamoDB or from Redis.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trustme

from local import processes
from local.consumer_process import ConsumerProcess
from local.demo import SOURCE, Demo
from local.deploy import build, connect, is_built, sam_deploy
from local.providers import OTHER_FLAGS, PROVIDERS
from local.screen import say, step, title
from local.stand_in import REPOSITORY, StandIn
from local.stores import STORES, StoreMissingError, check_installed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from local.deploy import Deployed
    from local.providers import Provider

LOG = REPOSITORY / ".aws-sam" / "run.log"
SHOWN_LINES = 12
CONSUMER_WITHIN_S = 10.0
CONSUMER_LINES = 3
WRONG_USAGE = 2
INTERRUPTED = 130


def main() -> int:
    """Run the demonstration and end, or with ``--keep`` stay until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay until Ctrl-C")
    parser.add_argument("--provider", default="launchdarkly")
    parser.add_argument("--store", default="dynamodb")
    arguments = parser.parse_args()
    problem = (
        _unknown("provider", arguments.provider, PROVIDERS)
        or _unknown("store", arguments.store, STORES)
        or _missing(arguments.store)
    )
    if problem:
        sys.stderr.write(f"make run: {problem}\n")
        return WRONG_USAGE
    processes.exit_on_signals()
    try:
        _run(PROVIDERS[arguments.provider](), arguments.store, keep=arguments.keep)
    except KeyboardInterrupt:
        say("\nstopped")
        return 0 if arguments.keep else INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in the same way
        return _fail(error)
    return 0


def _unknown(kind: str, name: str, known: Collection[str]) -> str:
    return "" if name in known else f"no {kind} {name!r}: known are {', '.join(sorted(known))}"


def _missing(store: str) -> str:
    try:
        check_installed(store)
    except StoreMissingError as error:
        return str(error)
    return ""


def _run(provider: Provider, store_name: str, *, keep: bool) -> None:
    begun = time.monotonic()
    ca = trustme.CA()
    say(f"flagstore with a simulated {provider.title}: no Docker, no AWS account, no root")
    title("Deploying")
    with STORES[store_name](ca) as store, _stand_in(ca) as stand_in:
        deployed = _deploy(stand_in)
        with provider.server:
            demo = Demo(
                stand_in=stand_in,
                deployed=deployed,
                provider=provider,
                store=store,
                secret=secrets.token_hex(16),
            )
            with step(f"{provider.title} with {OTHER_FLAGS} flags, its SSM parameters"):
                demo.configure()
            demo.first_request()
            _consume(demo, begun, keep=keep)
    title("Ended; nothing is left running.")


@contextmanager
def _stand_in(ca: trustme.CA) -> Iterator[StandIn]:
    """Run the stand-in; an error takes the end of its log along."""
    stand_in = StandIn(auth=True, ca=ca)
    with step("stand-in for AWS, over TLS; it checks signatures and policies"):
        stand_in.__enter__()
    try:
        yield stand_in
    except Exception as error:
        error.add_note(f"the end of the stand-in's log:\n{stand_in.log()}")
        raise
    finally:
        stand_in.__exit__(None, None, None)


def _deploy(stand_in: StandIn) -> Deployed:
    if is_built(REPOSITORY):
        say("sam build: nothing changed since the last one")
    else:
        with step("sam build"):
            build(REPOSITORY)
    with step("sam deploy of template.yaml"):
        sam_deploy(REPOSITORY, stand_in, parameters={})
    with step("what the stand-in left out (docs/local.md)"):
        return connect(stand_in)


def _consume(demo: Demo, begun: float, *, keep: bool) -> None:
    access = "the URL of Redis" if demo.store.redis_url else "FlagReaderPolicy"
    title(f"A consumer: another process, with the deployed layer and {access}, no more")
    with ConsumerProcess(demo.stand_in, demo.deployed, demo.store, SOURCE) as consumer:
        with step("from the start of the process to the flags"):
            consumer.start(demo.shown_flags())
            lines = [consumer.line(CONSUMER_WITHIN_S) for _ in range(CONSUMER_LINES)]
        say("\n".join(f"consumer | {line}" for line in lines))
        demo.change(consumer)
        title(f"All of it worked, in {time.monotonic() - begun:.1f} s.")
        if keep:
            demo.explain()
            while True:
                say(f"consumer | {consumer.line(None)}")


def _fail(error: Exception) -> int:
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    first, *rest = str(error).splitlines() or [type(error).__name__]
    title(f"make run failed: {first}")
    say("\n".join(line for line in rest[-SHOWN_LINES:] if line.strip()))
    say(f"The whole log is in {LOG.relative_to(REPOSITORY)}; docs/local.md may know more.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
