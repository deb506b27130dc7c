"""What ``make run`` shows once the template is deployed: a webhook, a reader, a change."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.certificates import client_context
from local.deploy import function_log
from local.providers import FLAG, TOGGLE
from local.screen import say, step, title

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.consumer_process import ConsumerProcess
    from local.deploy import Deployed
    from local.providers import Provider
    from local.stand_in import StandIn
    from local.stores import Store

SOURCE = "prod"
PARAMETER_PREFIX = "/flagstore"
SHOWN_FLAGS = 4

SYNC_WITHIN_S = 30.0
SEEN_WITHIN_S = 30.0
POLL_S = 0.05
# Checks of one source start at least 1 s apart when sync requests come in a burst; a lone one never
# waits, and that is the time to show.
PAUSE_S = 1.2
NOISE = ("START ", "END ", "REPORT ", '{"_aws"')


class DemoError(RuntimeError):
    """Something did not happen that should have; the text says what was seen instead."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One provider, one deployed stack.

    Attributes:
        stand_in: where the stack is.
        deployed: its parts.
        provider: the simulated one, started.
        store: where the flags are kept, started.
        secret: signs the webhooks, or comes with them.

    """

    stand_in: StandIn
    deployed: Deployed
    provider: Provider
    store: Store
    secret: str

    @property
    def url(self) -> str:
        """Where the provider's webhooks go."""
        return f"{self.deployed.webhook_base_url}/{SOURCE}"

    def configure(self) -> None:
        """Write the parameters of the source, and tell the provider where to request a sync."""
        ssm = self.stand_in.client("ssm")
        parameters = self.provider.parameters(self.secret, self.store)
        for path, (kind, content) in parameters.items():
            name = f"{PARAMETER_PREFIX}/{path}/{SOURCE}"
            ssm.put_parameter(Name=name, Type=kind, Value=json.dumps(content), Overwrite=True)
        if self.provider.webhooks:
            if self.stand_in.ca is not None:
                self.provider.server.trust = client_context(self.stand_in.ca)
            self.provider.server.webhook(self.url, self.secret)
        else:
            self.provider.server.listeners.append(self._put)

    def _put(self, event: dict[str, Any]) -> None:
        """Put an event on the queue, as the rule of the template does: nobody may send it here."""
        if "Start" not in event["detail-type"]:
            body = json.dumps(event)
            self.stand_in.client("sqs").send_message(
                QueueUrl=self.deployed.queue_url, MessageBody=body
            )

    def first_request(self) -> None:
        """Let the provider sync request once."""
        if self.provider.webhooks:
            self.first_webhook()
            return
        title(f"The first event: at {self.provider.title}, somebody deploys the flag {FLAG}")
        with step("event to the queue, then SyncFunction fetches and publishes, cold"):
            self.provider.switch(on=False)
            report = self._published()
        say(f"{report['message']} to {self.store.title} as fencing token {report['token']}")

    def first_webhook(self) -> None:
        """Sync request once, and once as a stranger."""
        title(f"The first webhook: at {self.provider.title}, somebody makes the flag {FLAG}")
        with step("webhook to the HTTP API; WebhookFunction starts cold"):
            self.provider.switch(on=False)
            status = self._response()
            delivered = status in self.provider.server.delivered
            _expect(delivered, f"the webhook was answered with {status}", self._log())
        with step("queue, then SyncFunction fetches and publishes, cold too"):
            report = self._published()
        done = f"{report['message']} to {self.store.title} as fencing token {report['token']}"
        say(f"responded with {status}, then {done}")
        with step("the same from a stranger, with another secret"):
            status = self._forged()
            _expect(status == 401, f"a forged webhook was answered with {status}", self._log())  # noqa: PLR2004 - HTTP
        say(f"responded with {status}, and nothing more happened")

    def shown_flags(self) -> list[str]:
        """Return the flags that the consumer prints."""
        others = sorted(key for key in self.provider.server.flags() if key != FLAG)
        return [FLAG, *others[: SHOWN_FLAGS - 1]]

    def change(self, consumer: ConsumerProcess) -> None:
        """Switch the flag on, and wait until the consumer shows it."""
        time.sleep(PAUSE_S)
        title(f"A change: at {self.provider.title}, somebody switches {FLAG} on")
        rung = "webhook" if self.provider.webhooks else "event"
        with step(f"from the {rung} until the consumer, still running, shows it"):
            self.provider.switch(on=True)
            line = consumer.line(SEEN_WITHIN_S)
            _expect(line.startswith(f"{FLAG}: on"), f"the consumer said {line!r}", self._log())
            for entry in self._entries():
                self._expect_content(entry)
        say(f"consumer | {line}")
        say("It asks every 0.5 s here, to be seen; unless told so, every 30 s.")

    def explain(self) -> None:
        """Say what to play with."""
        aws = self.stand_in
        title("Yours to play with; the consumer goes on to show changes")
        say(
            f"Switch a flag at {self.provider.title}, which requests a sync:\n"
            f"  curl -X POST {self.provider.server.url}{TOGGLE}{FLAG}\n"
            f"{self._by_hand()}"
            "Look around with the aws command:\n"
            f"  export AWS_ENDPOINT_URL={aws.endpoint} AWS_CA_BUNDLE={aws.ca_bundle} \\\n"
            f"    AWS_DEFAULT_REGION={aws.region}"
            f" AWS_ACCESS_KEY_ID={aws.environment['AWS_ACCESS_KEY_ID']}"
            f" AWS_SECRET_ACCESS_KEY={aws.environment['AWS_SECRET_ACCESS_KEY']}\n"
            f"  aws lambda invoke --function-name {self.deployed.sync_function} \\\n"
            "    --cli-binary-format raw-in-base64-out --payload "
            """'{"schedule": true}' /dev/stdout\n"""
            f"The same without TLS: AWS_ENDPOINT_URL={aws.plain_endpoint}"
        )
        say(f"Look at the flags in {self.store.title}:\n{self._look()}")
        title("Ctrl-C ends it and leaves nothing behind.")

    def _by_hand(self) -> str:
        """Return how to request a sync by hand; an event of AppConfig is in events/."""
        if not self.provider.webhooks:
            return ""
        url, headers = self.provider.by_hand(self.url, self.secret)
        header = "".join(f" \\\n    -H '{name}: {value}'" for name, value in headers.items())
        return (
            f"Sync request by hand (the secret is {self.secret}):\n"
            f"  curl -i --cacert {self.stand_in.ca_bundle} \\\n"
            f"    {url} -d '{self.provider.example}'{header}\n"
        )

    def _look(self) -> str:
        """Return commands that show what lies in the store."""
        if self.store.redis_url:
            ca_file, ours = self.store.redis_ca_file, f"flagstore:{{{SOURCE}}}"
            command = f"redis-cli -u {self.store.redis_url} --cacert {ca_file}"
            looks = {
                "launchdarkly": (
                    f"HKEYS '{{{SOURCE}}}:features'",
                    f"HGET '{{{SOURCE}}}:features' {FLAG}",
                ),
                "split": (
                    f"ZRANGE '{ours}:SPLITIO' 0 -1",
                    f"GET '{{{SOURCE}}}.SPLITIO.split.{FLAG}'",
                ),
                "unleash": (f"ZRANGE '{ours}:flags' 0 -1", f"HGETALL '{ours}:flags:{FLAG}'"),
            }
            return "\n".join(f"  {command} {look}" for look in looks[self.provider.name])
        return (
            f"  aws dynamodb scan --table-name {self.deployed.table} \\\n"
            "    --projection-expression '#n, #k' "
            """--expression-attribute-names '{"#n": "namespace", "#k": "key"}'"""
        )

    # -- what is seen ---------------------------------------------------------------------------

    def _response(self) -> int:
        self.provider.server.settle()
        return int(self.provider.server.deliveries[-1].statuses[-1])

    def _forged(self) -> int:
        url, headers = self.provider.by_hand(self.url, "not-the-webhook-secret")
        self.provider.server.send(url, headers, self.provider.example.encode(), 1)
        return self._response()

    def _log(self) -> str:
        """Return what may explain a failure: the functions' words, the stand-in's complaints."""
        functions = (self.deployed.webhook_function, self.deployed.sync_function)
        told = "\n".join(function_log(self.stand_in, name) for name in functions).splitlines()
        lines = [line for line in told if not line.startswith(NOISE)]
        complaints = (" ERROR ", " WARNING ")
        lines += [
            line
            for line in self.stand_in.log().splitlines()
            if any(word in line for word in complaints)
        ]
        return "\n".join(lines)

    def _published(self) -> dict[str, Any]:
        """Wait until SyncFunction says how its first sync ended; it says so once for each."""
        deadline = time.monotonic() + SYNC_WITHIN_S
        while time.monotonic() < deadline:
            for entry in self._entries():
                self._expect_content(entry)
                if entry["message"] == "published":
                    return entry
            time.sleep(POLL_S)
        message = f"nothing was published within {SYNC_WITHIN_S:g} s\n{self._log()}"
        raise DemoError(message)

    def _expect_content(self, entry: dict[str, Any]) -> None:
        """Take any warning of SyncFunction as a failure: here nothing should go wrong."""
        fine = entry["level"] == "INFO" and not entry.get("rows_error")
        _expect(fine, f"SyncFunction: {entry}", self._log())

    def _entries(self) -> Iterator[dict[str, Any]]:
        for line in function_log(self.stand_in, self.deployed.sync_function).splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if "level" in entry:
                    yield entry


def _expect(fine: bool, problem: str, log: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not fine:
        message = f"{problem}\n{log}"
        raise DemoError(message)
