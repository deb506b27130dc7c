"""The resources of ``tools/smoke`` in an AWS account, which are always removed at the end."""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import ClientError

from local import deploy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from storesync.model import Clock

DEPLOY_WITHIN_S = 600
FLAG = "smoke"
FLAGS, WEBHOOKS = "flags", "webhooks"
"""The sources: flags from AppConfig, and webhooks of a provider that does not exist."""
WEBHOOK = {"project": "smoke", "environment": "test"}
RETAINED = {"AWS::DynamoDB::Table", "AWS::IAM::ManagedPolicy", "AWS::Lambda::LayerVersion"}
"""Resource types that are retained when the stack is deleted."""
READER = f"""
import flagstore

flags = flagstore.client("{FLAGS}")

def handler(event, context):
    return flags.for_context({{"key": "ada"}}).enabled("{FLAG}")
"""


class NotCheckedError(Exception):
    """A step cannot be checked on the stand-in; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The account, or the stand-in.

    Attributes:
        repository: the folder of ``template.yaml``.
        client: returns a client of a service.
        environment: variables of the sam command.
        region: the AWS region.
        connect: on the stand-in only: repairs a stack, and returns its URL of webhooks.
        event_s: time limit of an AppConfig event, in seconds.
        alarm_s: time limit of an alarm, in seconds.

    """

    repository: Path
    client: Callable[[str], Any]
    environment: Mapping[str, str]
    region: str
    connect: Callable[[str], str] | None = None
    event_s: float = 45.0
    alarm_s: float = 300.0


class Steps:
    """Prints one line per step: outcome, name, findings, duration."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.outcomes: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Run one step, and print what is appended to the list. Errors do not stop the rest."""
        begun, found, outcome = self.clock.monotonic(), list[str](), "stopped"
        try:
            yield found
            outcome = "ok"
        except NotCheckedError as error:
            outcome, found = "not checked", [str(error)]
        except Exception as error:  # noqa: BLE001 - the other resources must still be removed
            outcome, found = "FAILED", [_in_a_line(error)]
        finally:
            text = ": ".join([name, *found])
            print(f"{outcome:<12} {text} ({self.clock.monotonic() - begun:.0f} s)", flush=True)
            self.outcomes.append(outcome)

    def wait_for[T](self, look: Callable[[], T], what: str, within_s: float = 120.0) -> T:
        """Call *look* every second until its result is true.

        Raises:
            TimeoutError: it is not true within *within_s* seconds.
        """
        end = self.clock.monotonic() + within_s
        while not (found := look()):
            if self.clock.monotonic() > end:
                message = f"no {what} within {within_s:.0f} s"
                raise TimeoutError(message)
            self.clock.sleep(1)
        return found

    def failed(self) -> bool:
        """Return whether any step failed."""
        return "FAILED" in self.outcomes


class Account:
    """A context manager: a stack and the resources to test it, all with the same name.

    Attributes:
        name: the name of the stack and the other resources.
        aws: returns a client of a service.
        outputs: the stack's outputs.
        resources: logical id → type and physical id.
        url: URL of webhooks.
        secret: the webhooks' secret.

    """

    def __init__(self, name: str, place: Place, steps: Steps) -> None:
        self.name = name
        self.aws = cache(place.client)
        self.outputs: dict[str, str] = {}
        self.resources: dict[str, tuple[str, str]] = {}
        self.url = ""
        self.secret = secrets.token_hex(16)
        self._place, self._steps = place, steps
        self._made = ExitStack()
        """Removes the resources in reverse order."""
        self._profile = ("", "", "")
        """Ids of application, environment and profile in AppConfig."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def _on_exit(self, what: str, remove: Callable[[], object]) -> None:
        def remove_it() -> None:
            with self._steps.step(f"remove {what}"):
                remove()

        self._made.callback(remove_it)

    # -- deploying ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Build, and create a bucket for the code and a profile in AppConfig."""
        deploy.build(self._place.repository)
        self._make_bucket()
        self._make_profile()

    def _make_bucket(self) -> None:
        s3, name, region = self.aws("s3"), self.name, self._place.region
        where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=name, **({} if region == "us-east-1" else where))

        def remove() -> None:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=name)
            for key in [each["Key"] for page in pages for each in page.get("Contents", [])]:
                s3.delete_object(Bucket=name, Key=key)
            s3.delete_bucket(Bucket=name)

        self._on_exit("the bucket", remove)

    def _make_profile(self) -> None:
        """Create a profile of feature flags, with nothing deployed yet."""
        api = self.aws("appconfig")
        of_it = {"ApplicationId": api.create_application(Name=self.name)["Id"]}
        self._on_exit("the application in AppConfig", partial(api.delete_application, **of_it))
        environment = api.create_environment(**of_it, Name="test")["Id"]
        profile = api.create_configuration_profile(
            **of_it, Name=FLAG, LocationUri="hosted", Type="AWS.AppConfig.FeatureFlags"
        )["Id"]
        self._profile = (of_it["ApplicationId"], environment, profile)

        def remove() -> None:
            at_once = {**of_it, "DeletionProtectionCheck": "BYPASS"}
            versions = {**of_it, "ConfigurationProfileId": profile}
            for each in api.list_hosted_configuration_versions(**versions)["Items"]:
                number = each["VersionNumber"]
                api.delete_hosted_configuration_version(**versions, VersionNumber=number)
            api.delete_configuration_profile(**at_once, ConfigurationProfileId=profile)
            api.delete_environment(**at_once, EnvironmentId=environment)

        self._on_exit("its environment and profile", remove)

    def deploy(self) -> None:
        """Deploy the stack, and configure its sources."""
        self._made.callback(self._remove_stack)
        parameters = {
            "ParameterPrefix": f"/{self.name}",
            "ReconcileMinutes": "1",
            "AppConfigProfile": "/".join(self._profile),
            "Monitoring": "full",
        }
        try:
            deploy.deploy_stack(
                self._place.repository,
                self.name,
                parameters,
                options=("--region", self._place.region, "--s3-bucket", self.name),
                environment=self._place.environment,
                within_s=DEPLOY_WITHIN_S,
            )
        except deploy.DeployError as error:
            message = "\n".join([str(error), *self._reasons()])
            raise deploy.DeployError(message) from error
        self._look()
        connect = self._place.connect
        self.url = connect(self.name) if connect else self.outputs["WebhookBaseUrl"]
        self._configure()

    def _look(self) -> None:
        """Read the stack's resources and outputs."""
        formation = self.aws("cloudformation")
        pages = formation.get_paginator("list_stack_resources").paginate(StackName=self.name)
        self.resources = {
            each["LogicalResourceId"]: (each["ResourceType"], each["PhysicalResourceId"])
            for page in pages
            for each in page["StackResourceSummaries"]
        }
        (stack,) = formation.describe_stacks(StackName=self.name)["Stacks"]
        self.outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    def _configure(self) -> None:
        """Write the parameters of both sources."""
        endpoint = self.aws("appconfig").meta.endpoint_url
        public = {
            "provider": "appconfig",
            "options": dict(
                zip(("application", "environment", "profile"), self._profile, strict=True)
            ),
            "allow_http": endpoint.startswith("http://"),
        }
        # Names under .invalid do not exist (RFC 6761).
        nobody = {"provider": "launchdarkly", "key": "none", "base_url": "https://sdk.invalid"}
        webhook = {"provider": "launchdarkly", "secrets": [self.secret], "options": WEBHOOK}
        parameters: dict[str, Any] = {
            f"/{self.name}/sources/{FLAGS}": public,
            f"/{self.name}/credentials/{FLAGS}": {"provider": "appconfig", "base_url": endpoint},
            f"/{self.name}/sources/{WEBHOOKS}": {"provider": "launchdarkly"},
            f"/{self.name}/credentials/{WEBHOOKS}": nobody,
            f"/{self.name}/webhooks/{WEBHOOKS}": webhook,
        }
        ssm = self.aws("ssm")
        self._on_exit("the parameters", partial(ssm.delete_parameters, Names=list(parameters)))
        for name, content in parameters.items():
            kind = "String" if "/sources/" in name else "SecureString"
            ssm.put_parameter(Name=name, Type=kind, Value=json.dumps(content))

    def deploy_flag(self) -> None:
        """Deploy an enabled flag in AppConfig."""
        api = self.aws("appconfig")
        application, environment, profile = self._profile
        named = {"ApplicationId": application, "ConfigurationProfileId": profile}
        flag = {"flags": {FLAG: {"name": FLAG}}, "values": {FLAG: {"enabled": True}}}
        version = api.create_hosted_configuration_version(
            **named,
            Content=json.dumps({"version": "1", **flag}).encode(),
            ContentType="application/json",
        )["VersionNumber"]
        strategy = {
            "DeploymentStrategyId": api.create_deployment_strategy(
                Name=self.name,
                DeploymentDurationInMinutes=0,
                FinalBakeTimeInMinutes=0,
                GrowthFactor=100.0,
                ReplicateTo="NONE",
            )["Id"]
        }
        self._on_exit("the strategy", partial(api.delete_deployment_strategy, **strategy))
        api.start_deployment(
            **named, **strategy, EnvironmentId=environment, ConfigurationVersion=str(version)
        )

    def make_reader(self) -> None:
        """Create a function that can read flags and do nothing else, not even log."""
        iam, functions = self.aws("iam"), self.aws("lambda")
        policy = {"RoleName": self.name, "PolicyArn": self.outputs["FlagReaderPolicyArn"]}
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole"}
        trust["Principal"] = {"Service": "lambda.amazonaws.com"}  # type: ignore[assignment]
        role = iam.create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        )["Role"]
        self._on_exit("the role", partial(iam.delete_role, RoleName=self.name))
        iam.attach_role_policy(**policy)
        self._on_exit("its policy", partial(iam.detach_role_policy, **policy))

        def make() -> bool:
            try:
                functions.create_function(
                    FunctionName=self.name,
                    Runtime="python3.13",
                    Architectures=["arm64"],
                    Role=role["Arn"],
                    Handler="reader.handler",
                    Code={"ZipFile": _zipped("reader.py", READER)},
                    Layers=[self.outputs["LayerArn"]],
                    Environment={"Variables": {"FLAGSTORE_TABLE": self.outputs["TableName"]}},
                )
            except ClientError as error:  # new roles take some seconds to apply
                if error.response["Error"]["Code"] != "InvalidParameterValueException":
                    raise
                return False
            return True

        self._steps.wait_for(make, "function", 60)
        self._on_exit("the function", partial(functions.delete_function, FunctionName=self.name))
        functions.get_waiter("function_active_v2").wait(FunctionName=self.name)

    # -- removing -------------------------------------------------------------------------------

    def _remove_stack(self) -> None:
        """Delete the stack and its retained resources."""
        formation = self.aws("cloudformation")
        last = {event["LogicalResourceId"]: event for event in reversed(self._events())}
        if not last:
            return  # sam failed before there was a stack
        with self._steps.step("remove the stack"):
            formation.delete_stack(StackName=self.name)
            formation.get_waiter("stack_delete_complete").wait(StackName=self.name)
        for event in last.values():
            kind, physical = event["ResourceType"], event.get("PhysicalResourceId")
            # A failed deployment has removed most of them.
            if kind in RETAINED and physical and event["ResourceStatus"] != "DELETE_COMPLETE":
                with self._steps.step(f"remove {physical}, which was retained"):
                    self._remove_retained(kind, physical)

    def _events(self) -> list[dict[str, Any]]:
        """Return the stack's events, newest first; none without a stack."""
        pages = self.aws("cloudformation").get_paginator("describe_stack_events")
        try:
            found = pages.paginate(StackName=self.name)
            return [event for page in found for event in page["StackEvents"]]
        except ClientError:
            return []

    def _reasons(self) -> list[str]:
        """Return why the deployment failed, newest reason first."""
        return [
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
            for event in self._events()
            if event["ResourceStatus"].endswith("_FAILED")
        ]

    def _remove_retained(self, kind: str, physical: str) -> None:
        tables = self.aws("dynamodb")
        if kind == "AWS::DynamoDB::Table":
            tables.update_table(TableName=physical, DeletionProtectionEnabled=False)
            tables.get_waiter("table_exists").wait(TableName=physical)
            tables.delete_table(TableName=physical)
        elif kind == "AWS::IAM::ManagedPolicy":
            self.aws("iam").delete_policy(PolicyArn=physical)
        else:
            *_, name, number = physical.split(":")
            self.aws("lambda").delete_layer_version(LayerName=name, VersionNumber=int(number))


def _in_a_line(error: Exception) -> str:
    """Return an error in one line, with the last line of a failed command."""
    lines = str(error).splitlines() or [""]
    rest = f" … {lines[-1].strip()}" if len(lines) > 1 else ""
    return f"{type(error).__name__}: {lines[0]}{rest}"


def _zipped(name: str, text: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, text)
    return data.getvalue()
