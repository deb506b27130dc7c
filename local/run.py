"""``make run``: the whole application on this machine: no Docker, no AWS account, no root.

Deploys the template to the stand-in for AWS, sends webhooks of a simulated provider, and reads the
flags in another process, from DynamoDB or Redis. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import secrets
import shutil
import sys
import time
import traceback
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trustme

from local import processes
from local.certificates import client_context
from local.consumer_process import Consumer
from local.deploy import STACK_NAME, build, connect, function_log, is_built, sam_deploy
from local.node_consumer import NodeConsumer
from local.node_consumer import problem as node_problem
from local.output import say, step, title
from local.providers import FLAG, OTHER_FLAGS, PROVIDERS, TOGGLE, Store
from local.repairs import Stack
from local.served_consumer import ServedConsumer
from local.stand_in import REPOSITORY, StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.deploy import Deployed
    from local.providers import Provider

SOURCE = "prod"
PARAMETER_PREFIX = "/flagstore"
STORES = ("dynamodb", "redis")
LANGUAGES = ("node", "python")
SERVED = "unleash"
"""The provider whose API ServeFunction speaks."""
LOG = REPOSITORY / ".aws-sam" / "run.log"
SHOWN_LINES = 12
SHOWN_FLAGS = 4
CONSUMER_WITHIN_S = 10.0
CONSUMER_LINES = 3
SYNC_WITHIN_S = 30.0
SEEN_WITHIN_S = 60.0
"""An SDK for Node.js may have looked just before the change."""
POLL_S = 0.05
DEPLOYMENT_STEPS = 2
PROGRESS_WIDTH = 28
SHARE = re.compile(r"on for (\d+) of (\d+) users")
SHARE_WITHIN = 5.0
"""Percentage points between AppConfig's share and the consumer's."""
# In a burst, checks of one source start at least 1 s apart; the time of a single one is shown here.
PAUSE_S = 1.2
UNAUTHORIZED = 401
WRONG_USAGE = 2
INTERRUPTED = 130
USAGE = '{"flagstore.usage"'
NOISE = ("START ", "END ", "REPORT ")


class DemoError(RuntimeError):
    """An expected result did not occur; the message shows what happened instead."""


def main() -> int:
    """Run the demonstration; with ``--keep``, stay until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay until Ctrl-C")
    parser.add_argument("--serve", action="store_true", help="read through ServeFunction")
    parser.add_argument("--provider")
    parser.add_argument("--store", default="dynamodb")
    parser.add_argument("--language", default="python")
    arguments = parser.parse_args()
    arguments.provider = arguments.provider or (SERVED if arguments.serve else "launchdarkly")
    if problem := _problem(arguments):
        sys.stderr.write(f"make run: {problem}\n")
        return WRONG_USAGE
    processes.exit_on_signals()
    try:
        _run(PROVIDERS[arguments.provider](), arguments)
    except KeyboardInterrupt:
        say("\nstopped")
        return 0 if arguments.keep else INTERRUPTED
    except Exception as error:  # noqa: BLE001 - every error is reported in the same way
        return _report(error)
    return 0


def _problem(arguments: argparse.Namespace) -> str:
    """Return what is wrong with the options, or what they need; empty if nothing is."""
    kinds = {"provider": sorted(PROVIDERS), "store": STORES, "language": LANGUAGES}
    for kind, known in kinds.items():
        if (name := getattr(arguments, kind)) not in known:
            return f"no {kind} {name!r}: use one of {', '.join(known)}"
    chosen = (arguments.provider, arguments.store, arguments.language)
    if arguments.serve and chosen != (SERVED, "dynamodb", "python"):
        return "SERVE=1 shows Unleash's flags in DynamoDB: omit PROVIDER, STORE and LANGUAGE"
    if arguments.language == "node" and (found := node_problem(*chosen[:2])):
        return found
    if arguments.store == "redis" and shutil.which("redis-server") is None:
        return (
            "STORE=redis needs redis-server, which is not on the PATH: "
            "run `make setup-e2e`, or install your distribution's redis-server"
        )
    return ""


def _run(provider: Provider, arguments: argparse.Namespace) -> None:
    begun = time.monotonic()
    ca = trustme.CA()
    say(f"flagstore with a simulated {provider.title}: no Docker, no AWS account, no root")
    title("Deploying")
    with _store(arguments.store, ca) as store, _stand_in(ca) as stand_in:
        parameters = {"ServeFlags": arguments.serve, "CollectUsage": _counts(arguments)}
        chosen = {name: str(value).lower() for name, value in parameters.items()}
        deployed = _deploy(stand_in, chosen)
        with provider.server:
            demo = Demo(
                stand_in=stand_in,
                deployed=deployed,
                provider=provider,
                store=store,
                secret=secrets.token_hex(16),
                language=arguments.language,
            )
            with step(f"{provider.title} with {OTHER_FLAGS} flags, its SSM parameters"):
                demo.configure()
            demo.first_sync()
            demo.read(begun, keep=arguments.keep)
    title("Ended; nothing is left running.")


def _counts(arguments: argparse.Namespace) -> bool:
    """Return whether the consumer prints usage."""
    return arguments.language == "python" and not arguments.serve


@contextmanager
def _store(name: str, ca: trustme.CA) -> Iterator[Store]:
    if name == "dynamodb":
        yield Store(name=name, title="DynamoDB")
        return
    # It imports pytest, which takes a while.
    from tests.simulators import redis_server  # noqa: PLC0415

    with ExitStack() as stack:
        with step("redis-server on 127.0.0.1, with TLS and a password"):
            server = stack.enter_context(redis_server.running(ca=ca))
        url = server.url(redis_server.ADMIN, redis_server.ADMIN_PASSWORD)
        yield Store(name=name, title="Redis", redis_url=url, redis_ca_file=server.ca_file)


@contextmanager
def _stand_in(ca: trustme.CA) -> Iterator[StandIn]:
    """Run the stand-in; add the end of its log to an error."""
    with ExitStack() as stack:
        with step("emulator of AWS, over TLS; it checks signatures and policies"):
            stand_in = stack.enter_context(StandIn(auth=True, ca=ca))
        try:
            yield stand_in
        except Exception as error:
            error.add_note(f"the end of the emulator's log:\n{stand_in.log()}")
            raise


def _deploy(stand_in: StandIn, parameters: Mapping[str, str]) -> Deployed:
    if is_built(REPOSITORY):
        say("sam build: nothing changed since the last one")
    else:
        with step("sam build"):
            build(REPOSITORY)
    with step("sam deploy of template.yaml"):
        sam_deploy(REPOSITORY, stand_in, parameters=parameters)
    with step("repairs of the emulator's gaps (docs/local.md)"):
        return connect(stand_in)


def _report(error: Exception) -> int:
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    first, *rest = str(error).splitlines() or [type(error).__name__]
    title(f"make run failed: {first}")
    say("\n".join(line for line in rest[-SHOWN_LINES:] if line.strip()))
    say(f"The full log is in {LOG.relative_to(REPOSITORY)}; see also docs/local.md.")
    return 1


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One provider and one deployed stack: a first sync, a reader, a change.

    Attributes:
        stand_in: runs the stack.
        deployed: the stack's parts.
        provider: the simulated provider, running.
        store: where the flags are published, running.
        secret: the webhooks' secret.
        language: the consumer's.

    """

    stand_in: StandIn
    deployed: Deployed
    provider: Provider
    store: Store
    secret: str
    language: str

    @property
    def url(self) -> str:
        """URL of the provider's webhooks."""
        return f"{self.deployed.webhook_base_url}/{SOURCE}"

    def configure(self) -> None:
        """Write the source's parameters, and create the webhook at the provider."""
        ssm = self.stand_in.client("ssm")
        for kind, content in self.provider.parameters(self.secret, self.store).items():
            name = f"{PARAMETER_PREFIX}/{kind}/{SOURCE}"
            ssm_type = "String" if kind == "sources" else "SecureString"
            ssm.put_parameter(Name=name, Type=ssm_type, Value=json.dumps(content), Overwrite=True)
        server = self.provider.server
        if self.provider.webhooks:
            if self.stand_in.ca is not None:
                server.trust = client_context(self.stand_in.ca)
            server.webhook(self.url, self.secret)
        else:
            server.listeners.append(self._queue)

    def _queue(self, message: dict[str, Any]) -> None:
        """Queue a sync request, or an event, as the template's rule does on AWS."""
        sqs = self.stand_in.client("sqs")
        sqs.send_message(QueueUrl=self.deployed.queue_url, MessageBody=json.dumps(message))

    def first_sync(self) -> None:
        """Create a flag at the provider, and wait until it is published."""
        kind = "webhook" if self.provider.webhooks else "event"
        title(f"The first {kind}: the flag {FLAG} is created at {self.provider.title}")
        response = ""
        if self.provider.webhooks:
            with step("webhook to the HTTP API; WebhookFunction starts cold"):
                self.provider.switch(on=False)
                status = self._status()
                self._expect(status in self.provider.server.delivered, f"responded with {status}")
                response = f"responded with {status}, then "
        else:
            self.provider.switch(on=False)
        with step("queue, then SyncFunction fetches and publishes, cold too"):
            report = self._published()
        token = report["token"]
        say(f"{response}{report['message']} to {self.store.title} as version {token}")
        if self.provider.webhooks:
            with step("a forged webhook, with another secret"):
                url, headers = self.provider.by_hand(self.url, "not-the-webhook-secret")
                self.provider.server.send(url, headers, self.provider.example.encode(), 1)
                status = self._status()
                self._expect(status == UNAUTHORIZED, f"a forged webhook got {status}")
            say(f"responded with {status}; nothing is queued")

    def read(self, begun: float, *, keep: bool) -> None:
        """Start a consumer, change a flag, and wait until the consumer shows it."""
        prepared = self._consumer()
        title(f"A consumer: another process, with {prepared.equipment}")
        others = sorted(key for key in self.provider.server.flags() if key != FLAG)
        with prepared as consumer:
            with step("from the start of the process to the flags"):
                consumer.start([FLAG, *others[: SHOWN_FLAGS - 1]])
                lines = [consumer.line(CONSUMER_WITHIN_S) for _ in range(CONSUMER_LINES)]
            say("\n".join(f"consumer | {line}" for line in lines))
            if hasattr(self.provider.server, "start_deployment"):
                self._deployment(consumer)
            self._change(consumer)
            if self.deployed.usage_function:
                self._usage(consumer)
            title(f"All of it worked, in {time.monotonic() - begun:.1f} s.")
            if keep:
                self._explain(consumer)
                while True:
                    say(f"consumer | {consumer.line(None)}")

    def _consumer(self) -> Consumer:
        given = (self.stand_in, self.deployed, self.store, SOURCE)
        if self.language == "node":
            return NodeConsumer(*given, self.provider.name)
        return (ServedConsumer if self.deployed.serve_base_url else Consumer)(*given)

    def _deployment(self, consumer: Consumer) -> None:
        """Let a gradual deployment grow, until an alarm rolls it back."""
        server = self.provider.server
        title(f"A gradual deployment: {self.provider.title} switches {FLAG} on for a growing share")
        number = server.start_deployment(FLAG)
        self._share(consumer, "it has started", 0.0)
        for _ in range(DEPLOYMENT_STEPS):
            server.take_step()
            self._queue({"source": SOURCE, "trigger": "followup"})  # the check due after a minute
            percentage = server.percentage()
            self._share(consumer, f"it is at {percentage:g}%", percentage)
        server.stop_deployment(number)
        self._share(consumer, "an alarm has rolled it back", 0.0)

    def _share(self, consumer: Consumer, progress: str, percentage: float) -> None:
        """Wait until the consumer shows the share that has the new version."""
        line = consumer.line(CONSUMER_WITHIN_S)  # before the follow-up of an earlier event
        found = SHARE.search(line)
        within = SHARE_WITHIN if percentage else 0.0
        fits = found and abs(100 * int(found[1]) / int(found[2]) - percentage) <= within
        self._expect(bool(fits), f"{progress}, but the consumer printed {line!r}")
        say(f"{progress:<{PROGRESS_WIDTH}} consumer | {line}")

    def _change(self, consumer: Consumer) -> None:
        time.sleep(PAUSE_S)
        title(f"A change: the flag {FLAG} is switched on at {self.provider.title}")
        kind = "webhook" if self.provider.webhooks else "event"
        with step(f"from the {kind} until the running consumer shows it"):
            self.provider.switch(on=True)
            line = consumer.line(SEEN_WITHIN_S)
            self._expect(line.startswith(f"{FLAG}: on"), f"the consumer printed {line!r}")
            self._log_entries()
        say(f"consumer | {line}")
        say(consumer.freshness)

    def _usage(self, consumer: Consumer) -> None:
        title(f"Usage: how often the consumer evaluated {FLAG}, in its log")
        with step("from the log through UsageFunction, as CloudWatch Logs would send it"):
            line = consumer.line(CONSUMER_WITHIN_S)
            self._expect(line.startswith(USAGE), f"the consumer printed {line!r}")
            self._deliver(line)
        count = sum(cell[0] for cell in json.loads(line)["f"][FLAG])
        server, name = self.provider.server, self.provider.title
        if hasattr(server, "evaluations"):
            counted = server.evaluations(FLAG)
            self._expect(counted == count, f"{name} counted {counted} evaluations, not {count}")
            say(f"{name} has counted {count} evaluations; the table has the last use")
        else:
            say(f"{name} takes no counts; the table has the last use")
        key = {"namespace": {"S": f"{SOURCE}:$usage"}, "key": {"S": FLAG}}
        found = self.stand_in.client("dynamodb").get_item(TableName=self.deployed.table, Key=key)
        self._expect("Item" in found, f"the table has no last use of {FLAG}")

    def _deliver(self, line: str) -> None:
        """Invoke UsageFunction, since the stand-in has no subscriptions."""
        event = {"id": "1", "timestamp": int(1000 * time.time()), "message": line}
        document = {"messageType": "DATA_MESSAGE", "logGroup": "consumer", "logEvents": [event]}
        data = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
        response = self.stand_in.client("lambda").invoke(
            FunctionName=self.deployed.usage_function,
            Payload=json.dumps({"awslogs": {"data": data}}),
        )
        problem = response["Payload"].read().decode()
        self._expect("FunctionError" not in response, f"UsageFunction failed: {problem}")

    def _explain(self, consumer: Consumer) -> None:
        """Print what can be tried while the demonstration stays."""
        aws = self.stand_in
        title("Try it; the consumer shows every change")
        say(
            f"Toggle a flag at {self.provider.title}, which requests a sync:\n"
            f"  curl -X POST {self.provider.server.url}{TOGGLE}{FLAG}\n"
            f"{self._webhook_by_hand()}"
            "Use the aws command:\n"
            f"  export AWS_ENDPOINT_URL={aws.endpoint} AWS_CA_BUNDLE={aws.ca_bundle} \\\n"
            f"    AWS_DEFAULT_REGION={aws.region}"
            f" AWS_ACCESS_KEY_ID={aws.environment['AWS_ACCESS_KEY_ID']}"
            f" AWS_SECRET_ACCESS_KEY={aws.environment['AWS_SECRET_ACCESS_KEY']}\n"
            f"  aws lambda invoke --function-name {self.deployed.sync_function} \\\n"
            "    --cli-binary-format raw-in-base64-out --payload "
            """'{"schedule": true}' /dev/stdout\n"""
            f"The same without TLS: AWS_ENDPOINT_URL={aws.plain_endpoint}\n"
            f"List what is published in {self.store.title}:\n{self._list_command()}\n"
            f"Read a flag with your own code:\n{self._read_command()}{consumer.by_hand}"
        )
        title("Ctrl-C ends it and leaves nothing behind.")

    def _webhook_by_hand(self) -> str:
        if not self.provider.webhooks:
            return ""
        url, headers = self.provider.by_hand(self.url, self.secret)
        header = "".join(f" \\\n    -H '{name}: {value}'" for name, value in headers.items())
        return (
            f"Send a webhook by hand (the secret is {self.secret}):\n"
            f"  curl -i --cacert {self.stand_in.ca_bundle} \\\n"
            f"    {url} -d '{self.provider.example}'{header}\n"
        )

    def _read_command(self) -> str:
        if self.store.redis_url:
            where = f"FLAGSTORE_REDIS_URL={self.store.redis_url}"
            where += f" FLAGSTORE_REDIS_CA_FILE={self.store.redis_ca_file}"
        else:
            where = f"FLAGSTORE_TABLE={self.deployed.table} SSL_CERT_FILE={self.stand_in.ca_bundle}"
        return (
            f"  export {where}\n"
            f"  PYTHONPATH=src .venv/bin/python -c 'import flagstore; "
            f"""print(flagstore.client("{SOURCE}").enabled("{FLAG}", {{"key": "ada"}}))'"""
        )

    def _list_command(self) -> str:
        if self.store.redis_url:
            ca_file = self.store.redis_ca_file
            return f"  redis-cli -u {self.store.redis_url} --cacert {ca_file} --scan"
        return (
            f"  aws dynamodb scan --table-name {self.deployed.table} \\\n"
            "    --projection-expression '#n, #k' "
            """--expression-attribute-names '{"#n": "namespace", "#k": "key"}'"""
        )

    def _status(self) -> int:
        """Return the status of the webhook that was sent last."""
        self.provider.server.settle()
        return int(self.provider.server.deliveries[-1].statuses[-1])

    def _published(self) -> dict[str, Any]:
        """Wait for SyncFunction's log entry about the first publication."""
        deadline = time.monotonic() + SYNC_WITHIN_S
        while time.monotonic() < deadline:
            for entry in self._log_entries():
                if entry["message"] == "published":
                    return entry
            time.sleep(POLL_S)
        message = f"nothing was published within {SYNC_WITHIN_S:g} s\n{self._log()}"
        raise DemoError(message)

    def _log_entries(self) -> list[dict[str, Any]]:
        """Return SyncFunction's log entries; a warning or an error is a failure here."""
        lines = function_log(self.stand_in, self.deployed.sync_function).splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        entries = [entry for entry in entries if "level" in entry]
        for entry in entries:
            is_fine = entry["level"] == "INFO" and not entry.get("rows_error")
            self._expect(is_fine, f"SyncFunction: {entry}")
        return entries

    def _expect(self, holds: bool, problem: str) -> None:  # noqa: FBT001 - reads like an assertion
        if not holds:
            message = f"{problem}\n{self._log()}"
            raise DemoError(message)

    def _log(self) -> str:
        """Return the functions' log lines, and the warnings and errors of the stand-in."""
        lines: list[str] = []
        made = Stack.read(self.stand_in, STACK_NAME).resources
        for name in ("WebhookFunction", "SyncFunction", "UsageFunction", "ServeFunction"):
            if name in made:
                lines += function_log(self.stand_in, made[name][1]).splitlines()
        lines = [line for line in lines if not line.startswith(NOISE)]
        lines = [line for line in lines if line[:1] != "{" or '"level"' in line]  # no metrics
        log = self.stand_in.log().splitlines()
        return "\n".join(lines + [line for line in log if " ERROR " in line or " WARNING " in line])


if __name__ == "__main__":
    sys.exit(main())
