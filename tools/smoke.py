"""``tools/smoke``: deploy this checkout to an AWS account, use it for some minutes, remove it.

It checks what the stand-in cannot, and prints one line per step (docs/releasing.md). All resources
have a random name, and are always removed at the end. The flags come from AWS AppConfig; webhooks
go to a source whose provider does not exist, so that no other server is called.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import boto3
import requests

from local import processes
from local.stand_in import REPOSITORY
from storesync.retry import Deadline, SystemClock
from storesync.signature import SIGNATURE_HEADER
from storesync.stores.dynamodb import DynamoDBStore
from tools.smoke_account import FLAGS, WEBHOOKS, Account, NotCheckedError, Place, Steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.keys import SourceState
    from storesync.model import Clock

EVENT = b'{"kind": "flag", "accesses": [{"resource": "proj/smoke:env/test:flag/smoke"}]}'
FORGERIES = 3
"""Webhooks with a wrong signature: one more than SignatureAlarm tolerates."""
ON_AWS_ONLY = {
    "event": "the stand-in sends no AppConfig events",
    "metrics": "the stand-in creates no metrics from log lines",
}
TIMES = re.compile(r"(?:Init )?Duration: [\d.]+ ms")
WRONG_USAGE = 2


class Smoke:
    """One deployment that is tested and removed."""

    def __init__(self, name: str, place: Place, clock: Clock) -> None:
        self._place, self._steps = place, Steps(clock)
        self._account = Account(name, place, self._steps)

    def run(self) -> int:
        """Run all steps; return 0 if none failed, else 1."""
        steps = self._steps
        with self._account as account:
            with steps.step("build, a bucket for the code, a profile in AppConfig"):
                account.prepare()
            if not steps.failed():
                with steps.step("first deployment") as found:
                    account.deploy()
                    found.append(f"{len(account.resources)} resources")
            if not steps.failed():
                self._use()
        outcomes = steps.outcomes
        print(", ".join(f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes)))
        return int(steps.failed())

    @contextmanager
    def _on_aws_only(self, what: str) -> Iterator[None]:
        """Report a time-out on the stand-in as not checked."""
        try:
            yield
        except TimeoutError:
            if self._place.connect is None:
                raise
            raise NotCheckedError(ON_AWS_ONLY[what]) from None

    def _use(self) -> None:
        step, wait_for = self._steps.step, self._steps.wait_for
        self._send_webhooks()
        with step("SyncFunction receives the webhook, and records its error") as found:
            error = wait_for(lambda: self._state(WEBHOOKS).error, "recorded error")
            found.append(json.loads(error)[1])
        with step("the schedule runs"):
            issued = self._state(FLAGS).issued
            wait_for(lambda: self._state(FLAGS).issued > issued, "run")
        self._publish()
        with step("a function with the layer and FlagReaderPolicy reads the flag") as found:
            self._account.make_reader()
            found.append(wait_for(self._read, "flag that is on", 60))
        with step("an alarm changes its state"):
            alarm = {"AlarmName": self._account.resources["SyncErrorAlarm"][1]}
            state = {"StateValue": "ALARM", "StateReason": "a smoke test"}
            self._account.aws("cloudwatch").set_alarm_state(**alarm, **state)
            wait_for(lambda: self._is_alarming("SyncErrorAlarm"), "state ALARM", 30)
        with step("the forged webhooks trigger SignatureAlarm"), self._on_aws_only("metrics"):
            wait_for(
                lambda: self._is_alarming("SignatureAlarm"), "state ALARM", self._place.alarm_s
            )

    def _send_webhooks(self) -> None:
        def post(path: str, secret: str) -> int:
            signature = hmac.new(secret.encode(), EVENT, hashlib.sha256).hexdigest()
            headers = {SIGNATURE_HEADER: signature, "Content-Type": "application/json"}
            url = f"{self._account.url}/{path}"
            return requests.post(url, EVENT, headers=headers, timeout=30).status_code

        good, forged = self._account.secret, "guessed"
        for name, path, secret, status, times in (
            ("a signed webhook is accepted", WEBHOOKS, good, HTTPStatus.ACCEPTED, 1),
            ("an unknown source is not found", "unknown", good, HTTPStatus.NOT_FOUND, 1),
            ("another path is not found", f"{WEBHOOKS}/a/b", good, HTTPStatus.NOT_FOUND, 1),
            ("forged webhooks are refused", WEBHOOKS, forged, HTTPStatus.UNAUTHORIZED, FORGERIES),
        ):
            with self._steps.step(name) as found:
                responses = [post(path, secret) for _ in range(times)]
                found.append(", ".join(map(str, responses)))
                if set(responses) != {status}:
                    message = f"{responses} instead of {status}"
                    raise ValueError(message)

    def _state(self, source: str) -> SourceState:
        deadline = Deadline(self._steps.clock, secrets.SystemRandom(), 30)
        tables, name = self._account.aws("dynamodb"), self._account.outputs["TableName"]
        return DynamoDBStore(tables, name, deadline).state(source)

    def _publish(self) -> None:
        """Deploy a flag in AppConfig. Its event comes before the next run of the schedule."""

        def is_published() -> bool:
            return self._state(FLAGS).published > 0

        step, wait_for = self._steps.step, self._steps.wait_for
        with step("a deployment in AppConfig publishes its flags"), self._on_aws_only("event"):
            self._account.deploy_flag()
            wait_for(is_published, "publication", self._place.event_s)
        with step("SyncFunction can be invoked by hand") as found:
            called = self._account.aws("lambda").invoke(
                FunctionName=self._account.outputs["SyncFunctionName"],
                Payload=json.dumps({"source": FLAGS}),
            )
            found.append(json.loads(called["Payload"].read())["outcome"])
            wait_for(is_published, "publication", 10)

    def _read(self) -> str:
        """Return the duration of a call that found the flag on, or "" if access was denied."""
        called = self._account.aws("lambda").invoke(
            FunctionName=self._account.name, LogType="Tail", Payload="{}"
        )
        response = called["Payload"].read().decode()
        if "AccessDenied" in response:  # policies take some seconds to apply
            return ""
        if response != "true":
            raise ValueError(response)
        log = base64.b64decode(called.get("LogResult", "")).decode()
        return ", ".join(["the flag is on", *TIMES.findall(log)])

    def _is_alarming(self, name: str) -> bool:
        names = [self._account.resources[name][1]]
        (alarm,) = self._account.aws("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
        return bool(alarm["StateValue"] == "ALARM")


def main() -> int:
    """Confirm the account, then run."""
    parser = argparse.ArgumentParser(prog="tools/smoke", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args()
    session = boto3.Session()
    region = session.region_name
    if not region:
        sys.stderr.write("error: no AWS region: set AWS_DEFAULT_REGION\n")
        return WRONG_USAGE
    account = session.client("sts").get_caller_identity()["Account"]
    quota = session.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    print(f"account {account}, {region}; Lambda concurrency limit {quota}")
    if not arguments.yes and input("Deploy there, and remove everything afterwards? [y/N] ") != "y":
        return 0
    processes.exit_on_signals()
    client: Any = session.client
    place = Place(repository=REPOSITORY, client=client, environment=os.environ, region=region)
    return Smoke(f"flagstore-smoke-{secrets.token_hex(6)}", place, SystemClock()).run()


if __name__ == "__main__":
    sys.exit(main())
