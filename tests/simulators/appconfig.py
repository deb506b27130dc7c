"""An AWS AppConfig that runs here: one environment, its control plane, and events of deployments.

It behaves as the API's models and the user guide say (``appconfig_flags`` has the documents):

- Versions have numbers that rise, and are never written again. A deployment is ``DEPLOYING``, then
  ``BAKING``, then ``COMPLETE``; one that is stopped or that an alarm ends is ``ROLLED_BACK``; one
  that was complete and is stopped with ``Allow-Revert`` is ``REVERTED``. Then the version before is
  served again. ``serves`` tracks that separately from the states.
- A deployment with a strategy goes from step to step by the clock, at :meth:`Strategy.steps`.
- Deployments are listed from the highest number down, those of other profiles among them.
- Events are sent for the AWS-authored extension's actions: start, complete and rolled back. A
  revert has no event.
- Requests must be signed; ``used`` collects the actions and resources that their role needs.
"""

from __future__ import annotations

import copy
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .appconfig_flags import definition, document, event, over_eventbridge, rich_flags
from .server import ProviderServer, Request, compact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["AppConfigSimulator", "rich_flags"]

ACCOUNT = "123456789012"
_UNDOABLE = {"DEPLOYING", "BAKING"}
_KINDS = {"COMPLETE": "OnDeploymentComplete", "ROLLED_BACK": "OnDeploymentRolledBack"}
_LIST = re.compile(r"/applications/([^/]+)/environments/([^/]+)/deployments")
_ONE = re.compile(_LIST.pattern + r"/(\d+)")
_GET = re.compile(
    r"/applications/([^/]+)/configurationprofiles/([^/]+)/hostedconfigurationversions/(\d+)"
)
Response = tuple[int, bytes, dict[str, str]]

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/[^,]+, SignedHeaders=(?P<names>[^,]+), .+"
)


@dataclass(frozen=True)
class Strategy:
    """A deployment strategy."""

    minutes: float
    factor: float
    growth: str = "LINEAR"
    bake_minutes: float = 0.0
    as_logged: bool = False
    """Steps come as in AWS' recorded log of 2021, not as its guide says."""

    def steps(self) -> list[tuple[float, float]]:
        """Return each step's time in seconds from the start, and its percentage."""
        shares = [self.factor]
        while shares[-1] < 100:
            last = shares[-1]
            following = 2 * last if self.growth == "EXPONENTIAL" else last + self.factor
            shares.append(min(100.0, following))
        whole_s = 60 * self.minutes
        between_s = whole_s / (len(shares) + self.as_logged)
        if self.growth == "LINEAR" and not self.as_logged:
            between_s = whole_s * self.factor / 100
        times = (min(between_s * number, whole_s) for number in range(1, len(shares) + 1))
        return list(zip(times, shares, strict=True))


class AppConfigSimulator(ProviderServer):
    """One environment of an application, and a profile in it."""

    checks_signatures = True
    """False: any credentials are accepted, for tests without a function's role."""

    def __init__(
        self,
        flags: Mapping[str, Any] | None = None,
        definitions: Mapping[str, Any] | None = None,
        *,
        access_key: str = "AKIDAPPCONFIG00001",
        secret_key: str = "appconfig-secret-access-key-0001",  # noqa: S107
        region: str = "eu-west-1",
        freeform: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.clock = clock
        self._strategies: dict[int, Strategy] = {}
        self.access_key, self.sdk_key = access_key, secret_key
        self.region = region
        self.freeform = freeform
        self.ids = {
            "Application": ("ba8toh7", "Shop"),
            "Environment": ("pgil2o7", "production"),
            "ConfigurationProfile": ("ga3tqep", "flags"),
        }
        self.page_size = 50
        self.used: set[tuple[str, str]] = set()
        self.listeners: list[Callable[[dict[str, Any]], object]] = []
        self.events: list[dict[str, Any]] = []
        """All events as EventBridge carries them, the newest last."""
        self.experiment_flags = ""
        """A header of responses with a document; empty: none."""
        self.serves = 0
        """The version that everybody is served who is in no gradual deployment."""
        self._before: dict[int, int] = {}
        self._values = copy.deepcopy(dict(flags or {}))
        self._definitions = copy.deepcopy(dict(definitions or {}))
        self.versions: dict[int, bytes] = {}
        self._deployments: list[dict[str, Any]] = []
        self._deploy_at_once()

    @property
    def options(self) -> dict[str, str]:
        named = zip(("application", "environment", "profile"), self.ids.values(), strict=True)
        found = {option: each[0] for option, each in named}
        return {**found, "region": self.region, **({"format": "freeform"} if self.freeform else {})}

    @property
    def environ(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.sdk_key}

    # -- changing flags -------------------------------------------------------------------------

    def set_flag(self, key: str, **fields: Any) -> int:
        """Change or create a flag, deploy it to everybody, and return the deployment's number."""
        with self.lock:
            value = {**self._values.get(key, {"enabled": False}), **copy.deepcopy(fields)}
            if "_variants" in fields:
                value = copy.deepcopy(fields)
            self._values[key] = value
            self._definitions.setdefault(key, definition(key))
            return self._deploy_at_once()

    def remove_flag(self, key: str) -> int:
        with self.lock:
            del self._values[key]
            self._definitions.pop(key, None)
            return self._deploy_at_once()

    def flags(self) -> dict[str, Any]:
        return dict(self.newest()["flags"])

    def put(self, content: bytes | Mapping[str, Any]) -> int:
        with self.lock:
            raw = content if isinstance(content, bytes) else compact(content)
            self.versions[len(self.versions) + 1] = raw
            return len(self.versions)

    def current(self) -> dict[str, Any]:
        return self._values if self.freeform else document(self._values, self._definitions)

    def _deploy_at_once(self) -> int:
        return self.roll_out(self.put(self.current()))

    # -- deployments ----------------------------------------------------------------------------

    def roll_out(self, version: int) -> int:
        """Deploy a version to everybody without baking, and return the deployment's number."""
        number = self.deploy(version)
        self.complete(number)
        return number

    def deploy(self, version: int, strategy: Strategy | None = None) -> int:
        """Start a deployment; without a strategy, the caller takes its steps."""
        with self.lock:
            number = len(self._deployments) + 1
            assert version in self.versions
            assert not self.in_progress(), "one at a time"
            self._before[number] = self.serves
            self._deployments.append(
                {
                    "DeploymentNumber": number,
                    "ConfigurationProfileId": self.ids["ConfigurationProfile"][0],
                    "ConfigurationName": self.ids["ConfigurationProfile"][1],
                    "ConfigurationVersion": str(version),
                    "PercentageComplete": 0.0,
                    "StartedAt": _iso(self.clock()),
                    "EventLog": [],
                }
            )
            if strategy is not None:
                self._strategies[number] = strategy
                self._deployments[-1] |= {
                    "DeploymentDurationInMinutes": strategy.minutes,
                    "GrowthType": strategy.growth,
                    "GrowthFactor": strategy.factor,
                    "FinalBakeTimeInMinutes": strategy.bake_minutes,
                }
            self._to(number, "DEPLOYING")
            self._log("OnDeploymentStart", number)
            return number

    def deploy_others(self, count: int) -> None:
        """Deploy another profile to the same environment, so often."""
        with self.lock:
            for number in range(len(self._deployments) + 1, len(self._deployments) + count + 1):
                self._deployments.append(
                    {
                        "DeploymentNumber": number,
                        "ConfigurationProfileId": "0ther99",
                        "ConfigurationVersion": "1",
                        "State": "COMPLETE",
                    }
                )
            self._publish()

    def run_experiment(self, key: str, value: Mapping[str, Any], *, hosted: bool = True) -> int:
        """Deploy a flag with an experiment's treatments, and return the deployment's number.

        AWS does not document whether the version that it deploys is a hosted one.
        """
        with self.lock:
            content = {**self._values, key: dict(value)}
            number = self.deploy(self.put(document(content, self._definitions)))
            self._find(number)["Type"] = "MANAGED"
            self.complete(number)
            if hosted:
                self.experiment_flags = f"{key}=arn:aws:appconfig:x|t1=__t1__,t2=__t2__,c=__c__"
            else:
                self._find(number)["ConfigurationVersion"] = f"{number}-experiment"
                self._publish()
            return number

    def in_progress(self) -> int:
        """Return the number of the deployment that is not at its end; 0 if there is none."""
        last = self._deployments[-1] if self._deployments else {}
        return int(last["DeploymentNumber"]) if last.get("State") in _UNDOABLE else 0

    def step(self, number: int, percentage: float = 50.0, at: float | None = None) -> None:
        """Let a deployment reach a percentage."""
        with self.lock:
            found = self._find(number)
            when = _iso(self.clock() if at is None else at)
            event = {"EventType": "PERCENTAGE_UPDATED", "OccurredAt": when}
            log = [event, *found["EventLog"]]  # the newest first
            found |= {"PercentageComplete": percentage, "EventLog": log}
            self._to(number, "DEPLOYING")

    def bake(self, number: int) -> None:
        """Let a deployment reach everybody, and wait for alarms."""
        self._find(number)["PercentageComplete"] = 100.0
        self._to(number, "BAKING")

    def tick(self) -> None:
        """Take all steps that are due by the strategy of the deployment in progress."""
        with self.lock:
            number = self.in_progress()
            strategy = self._strategies.get(number)
            if strategy is None:
                return
            found = self._find(number)
            start = datetime.fromisoformat(found["StartedAt"]).timestamp()
            elapsed = self.clock() - start
            for after_s, percentage in strategy.steps():
                if found["PercentageComplete"] < percentage and elapsed >= after_s:
                    self.step(number, percentage, start + after_s)
                    found = self._find(number)
            end_s = 60 * strategy.minutes
            if found["State"] == "DEPLOYING" and elapsed >= end_s:
                self.bake(number)
            if elapsed >= end_s + 60 * strategy.bake_minutes:
                self.complete(number)

    def percentage(self) -> float:
        """Return the share that has the newest version; 100 without a deployment in progress."""
        number = self.in_progress()
        return float(self._find(number)["PercentageComplete"]) if number else 100.0

    def complete(self, number: int) -> None:
        with self.lock:
            self.serves = int(self._find(number)["ConfigurationVersion"])
            self._to(number, "COMPLETE")

    def stop_deployment(self, number: int, *, allow_revert: bool = False) -> None:
        """Stop a deployment, as a person or an alarm does; or take a complete one back."""
        with self.lock:
            state = self._find(number)["State"]
            assert state in _UNDOABLE or (state == "COMPLETE" and allow_revert)
            self.serves = self._before[number]
            self._to(number, "ROLLED_BACK" if state in _UNDOABLE else "REVERTED")

    def may_revert(self) -> int:
        """Return the number of the deployment that is live and can be taken back; 0 for none."""
        if self.in_progress():
            return 0
        live = [each for each in self._deployments if each["State"] == "COMPLETE"]
        number = int(live[-1]["DeploymentNumber"]) if live else 0
        return number if self._before.get(number) else 0

    def _find(self, number: int) -> dict[str, Any]:
        return self._deployments[number - 1]

    def _to(self, number: int, state: str) -> None:
        with self.lock:
            self._deployments[number - 1] = {**self._find(number), "State": state}
            self._publish()
            if state in _KINDS:
                self._log(_KINDS[state], number)

    def _log(self, kind: str, number: int) -> None:
        version = int(self._find(number)["ConfigurationVersion"])
        self.events.append(
            over_eventbridge(
                event(kind, number, version=version, ids=self.ids),
                delivery=f"00000000-0000-4000-9000-{len(self.events) + 1:012d}",
                account=ACCOUNT,
                region=self.region,
                time="2026-11-18T11:06:40Z",
            )
        )
        for listener in self.listeners:
            listener(copy.deepcopy(self.events[-1]))

    def _publish(self) -> None:
        content = self.versions.get(self.serves, b"{}")
        try:
            stored = json.loads(content)
        except ValueError:
            stored = {}
        flags = stored if self.freeform else stored.get("values", {})
        self.publish({"flags": flags, "deployments": tuple(self._deployments)})

    # -- serving --------------------------------------------------------------------------------

    def response(self, request: Request) -> Response:
        error = _refusal(request, self.access_key, self.sdk_key, self.region)
        if error and self.checks_signatures:
            return _error(403, error)
        path, _, query = request.path.partition("?")
        given = {name: values[0] for name, values in parse_qs(query).items()}
        self.tick()
        with self.lock:
            if found := _ONE.fullmatch(path):
                return self._one(unquote(found[1]), unquote(found[2]), int(found[3]))
            if found := _LIST.fullmatch(path):
                return self._list(unquote(found[1]), unquote(found[2]), given)
            if found := _GET.fullmatch(path):
                return self._get(unquote(found[1]), unquote(found[2]), int(found[3]))
        return _error(404, "UnknownOperationException")

    def _use(self, action: str, *resources: str) -> None:
        arn = f"arn:aws:appconfig:{self.region}:{ACCOUNT}:application/{self.ids['Application'][0]}"
        self.used |= {(f"appconfig:{action}", arn + resource) for resource in resources}

    def _list(self, application: str, environment: str, query: Mapping[str, str]) -> Response:
        self._use("ListDeployments", "", f"/environment/{self.ids['Environment'][0]}")
        if application != self.ids["Application"][0] or environment != self.ids["Environment"][0]:
            return _error(404, "ResourceNotFoundException")
        begin = int(query.get("next_token", 0))
        size = min(int(query.get("max_results", 50)), self.page_size)
        # A later page is of the state that the first one was of.
        state = self.served() if not begin else self.newest()
        items = [
            {name: each[name] for name in each if name != "EventLog"}
            for each in reversed(state["deployments"])
        ]
        page: dict[str, Any] = {"Items": items[begin : begin + size]}
        if begin + size < len(items):
            page["NextToken"] = str(begin + size)
        return 200, compact(page), {}

    def _one(self, application: str, environment: str, number: int) -> Response:
        place = f"/environment/{self.ids['Environment'][0]}"
        self._use("GetDeployment", "", place, f"{place}/deployment/{number}")
        known = (self.ids["Application"][0], self.ids["Environment"][0])
        if (application, environment) != known or not 0 < number <= len(self._deployments):
            return _error(404, "ResourceNotFoundException")
        return 200, compact(self.served()["deployments"][number - 1]), {}

    def _get(self, application: str, profile: str, number: int) -> Response:
        mine = f"/configurationprofile/{self.ids['ConfigurationProfile'][0]}"
        version = f"{mine}/hostedconfigurationversion/{number}"
        self._use("GetHostedConfigurationVersion", "", mine, version)
        known = (self.ids["Application"][0], self.ids["ConfigurationProfile"][0])
        if (application, profile) != known or number not in self.versions:
            return _error(404, "ResourceNotFoundException")
        flags = {"Experiment-Flags": self.experiment_flags} if self.experiment_flags else {}
        return 200, self.versions[number], {"Version-Number": str(number), **flags}

    def document(self) -> bytes:
        return compact({"Items": list(reversed(self.newest()["deployments"]))[: self.page_size]})

    def empty_document(self) -> bytes:
        return compact({"Items": []})


def _refusal(request: Request, key: str, secret: str, region: str) -> str:
    """Return the error that AWS AppConfig has for a request; empty if its signature is right."""
    given = request.headers.get("authorization", "")
    match = _AUTHORIZATION.fullmatch(given)
    if match is None:
        return "MissingAuthenticationTokenException"
    if match["key"] != key:
        return "UnrecognizedClientException"
    headers = {name: request.headers.get(name, "") for name in match["names"].split(";")}
    again = AWSRequest(request.method, f"http://{headers['host']}{request.path}", headers)
    again.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(key, secret), "appconfig", region)
    text = signer.string_to_sign(again, signer.canonical_request(again))
    signer._inject_signature_to_request(again, signer.signature(text, again))
    return "" if again.headers["Authorization"] == given else "InvalidSignatureException"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _error(status: int, kind: str) -> Response:
    return (
        status,
        compact({"Message": kind}),
        {"x-amzn-ErrorType": f"{kind}:http://internal.amazon.com/"},
    )
