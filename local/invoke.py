"""``make invoke EVENT=events/….json``: run both functions in this process on one sample event.

Needs neither Docker nor AWS: the providers are simulated and hold the change that the samples
report; the parameters, the queue and the store are in memory. A webhook goes to WebhookFunction,
and the sync request that it queues goes to SyncFunction. ``sam local invoke`` runs the same events
against a deployed stack (events/README.md).
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from flagstore.keys import SourceState, state_key
from local import make_events
from storesync import sync, webhook
from storesync.config import SyncSettings, WebhookSettings
from storesync.providers import get
from storesync.telemetry import logger
from tests.simulators import appconfig, launchdarkly, split, unleash
from tests.simulators.memory_store import MemoryStores
from tests.simulators.ssm import Ssm

PREFIX = "/local"
FLAGS = 50
SECONDS = 60.0
WRONG_USAGE = 2


class Queue:
    """The part of SQS that the functions use."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def send_message_batch(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - boto3's
        """Keep messages."""
        self.bodies += [entry["MessageBody"] for entry in request["Entries"]]
        return {}

    def change_message_visibility(self, **_: object) -> dict[str, Any]:
        """Do nothing, since no message is delivered twice."""
        return {}


def simulators() -> dict[str, Any]:
    """Return a provider per sample source, at which what the samples report has happened."""
    ld = launchdarkly.LaunchDarklySimulator(*launchdarkly.rich_flags(FLAGS))
    ld.set_flag("new-checkout", on=True, version=8)
    harness = split.SplitSimulator(*split.rich_flags(FLAGS))
    harness._number = make_events.SENT_AT_MS - 1  # noqa: SLF001 - the change number in the sample
    harness.set_flag("new-checkout", killed=False)
    un = unleash.UnleashSimulator(*unleash.rich_flags(FLAGS))
    un._event_id = make_events.UNLEASH_EVENT - 1  # noqa: SLF001 - as in the sample
    un.set_flag("new-checkout", enabled=True)
    aws = appconfig.AppConfigSimulator(*appconfig.rich_flags(FLAGS))
    for enabled in (False, True):
        aws.set_flag("new-checkout", enabled=enabled)
    return {
        make_events.LAUNCHDARKLY_SOURCE: ld,
        make_events.SPLIT_SOURCE: harness,
        make_events.UNLEASH_SOURCE: un,
        make_events.APPCONFIG_SOURCE: aws,
    }


def configure(ssm: Ssm, servers: dict[str, Any]) -> None:
    """Write the parameters of all sample sources."""
    sources, credentials, webhooks = {}, {}, {}
    options = {"project": launchdarkly.PROJECT, "environment": make_events.ENVIRONMENT}
    for name, server in servers.items():
        kind = "launchdarkly" if name == make_events.LAUNCHDARKLY_SOURCE else name
        base, provider = {"provider": kind}, get(kind)
        given = getattr(server, "options", {})
        sources[name] = {**base, "options": given, "allow_http": True}
        credentials[name] = {**base, "base_url": server.url}
        if provider.needs_key:
            credentials[name]["key"] = server.sdk_key
        if provider.methods:
            known = {each: options[each] for each in options.keys() & {*provider.webhook_options}}
            webhooks[name] = {**base, "secrets": [make_events.SECRET], "options": known}
    for kind, values in (
        ("sources", sources),
        ("credentials", credentials),
        ("webhooks", webhooks),
    ):
        ssm.put(f"{PREFIX}/{kind}", values)


def invoke(event: dict[str, Any]) -> dict[str, Any]:
    """Run the functions on an event; return their responses and the published versions."""
    ssm, sqs, stores = cast("Any", Ssm()), cast("Any", Queue()), MemoryStores()
    done: dict[str, Any] = {}
    with ExitStack() as running:
        servers = {name: running.enter_context(each) for name, each in simulators().items()}
        configure(ssm, servers)
        os.environ.update(servers[make_events.APPCONFIG_SOURCE].environ)
        if "requestContext" in event:
            receiver = webhook.Receiver(WebhookSettings(PREFIX, "local"), ssm=ssm, sqs=sqs)
            done["WebhookFunction"] = webhook.respond(lambda: receiver, event)
            event = {"Records": [{"messageId": "1", "body": body} for body in sqs.bodies]}
        if event.get("Records") != []:
            settings = SyncSettings(PREFIX, "", "local", followup_s=0, snapshot_replicas=1)
            syncer = sync.Syncer(settings, ssm=ssm, sqs=sqs, stores=stores)
            done["SyncFunction"] = sync.respond(lambda: syncer, event, SECONDS)
        states = {
            name: SourceState.from_record(stores.records.get(state_key(name), {}))
            for name in servers
        }
    done["published"] = {name: each.published for name, each in states.items() if each.published}
    return done


def main(arguments: list[str]) -> int:
    """Print the log and the metrics to stderr, the result to stdout."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        sys.stderr.write("name a sample event: make invoke EVENT=events/schedule.json\n")
        return WRONG_USAGE
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")
    logger().registered_handler.setStream(sys.stderr)  # type: ignore[attr-defined] # a StreamHandler
    result, sys.stdout = sys.stdout, sys.stderr  # the metrics are printed
    done = invoke(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    result.write(json.dumps(done, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
