"""The deployed template: what its functions and a reader really call, against its policies.

The functions are processes of their own that call over TLS; behind it is a recorder. The stand-in
checks the same policies in its own way: who may not do something is refused there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from local.consumer_process import ConsumerProcess
from local.demo import SOURCE, Demo
from local.deploy import deploy
from local.providers import PROVIDERS
from local.stand_in import ACCESS_KEY_ID, DEFAULT_EXECUTABLE, REPOSITORY, StandIn
from local.stores import STORES
from simulators.recorder import Call, Recorder
from simulators.rights import grants, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def calls() -> Iterator[dict[str, list[Call]]]:
    """Give what each function and the reader called while a flag was made, rung and changed."""
    for needed in (DEFAULT_EXECUTABLE, REPOSITORY / ".venv-sam" / "bin" / "sam"):
        if not needed.exists():
            pytest.skip(f"{needed.name} is missing: run `make setup`")
    ca = trustme.CA()
    with StandIn(auth=True, ca=ca) as stand_in, Recorder(lambda: stand_in.port) as recorder:
        deployed = deploy(REPOSITORY, stand_in, parameters={}, progress=print)
        assert stand_in.relay
        stand_in.relay.target = recorder.port
        provider = PROVIDERS["launchdarkly"]()
        with provider.server, STORES["dynamodb"](ca) as store:
            demo = Demo(
                stand_in=stand_in,
                deployed=deployed,
                provider=provider,
                store=store,
                secret="a-secret-of-some-length",
            )
            demo.configure()
            demo.first_webhook()
            with ConsumerProcess(stand_in, deployed, store, SOURCE) as consumer:
                reader = consumer._environment["AWS_ACCESS_KEY_ID"]
                consumer.start(demo.shown_flags())
                for _ in range(3):
                    consumer.line(10)
                demo.change(consumer)
        yield _by_caller(recorder.calls, reader)


def _by_caller(told: list[Call], reader: str) -> dict[str, list[Call]]:
    """Sort calls by the key that signed them: each function has its role's, and starts with SSM."""
    by_key: dict[str, list[Call]] = {}
    for call in told:
        by_key.setdefault(call.key, []).append(call)
    del by_key[ACCESS_KEY_ID]  # our own, as the account's root user
    callers = {"reader": by_key.pop(reader), "webhook": [], "sync": []}
    for group in by_key.values():
        first = group[0]
        assert first.operation == "GetParametersByPath"
        callers["webhook" if first.sent["Path"].endswith("/webhooks") else "sync"] += group
    return callers


@pytest.mark.parametrize("who", ["webhook", "sync", "reader"])
def test_every_call_is_allowed(calls: dict[str, list[Call]], who: str) -> None:
    """What the deployed function called over TLS is in the policy of its role."""
    needed = {use for call in calls[who] for use in uses(call)}
    print(f"\n{who}: {len(calls[who])} calls, {sorted({use.action for use in needed})}")
    assert needed
    assert not [use for use in needed if not any(grant.allows(use) for grant in grants(who))]
