"""AppConfig's provider against the stand-in's AppConfig, which nobody here wrote.

It checks signatures. It differs from AWS where these tests say so: its list of deployments comes in
rising order and without ids of profiles.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from local.stand_in import StandIn, StandInMissingError
from simulators.appconfig_flags import document, rich_flags
from storesync import errors
from storesync.http import HttpClient
from storesync.model import Secret, Source
from storesync.providers.appconfig import AppConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROVIDER = AppConfig()


class Shop:
    """An application with an environment and a profile."""

    def __init__(self, stand_in: StandIn) -> None:
        self.url, self.region = stand_in.endpoint, stand_in.region
        self.client: Any = stand_in.client("appconfig")
        self.application = self.client.create_application(Name="Shop")["Id"]
        of_it = {"ApplicationId": self.application}
        self.environment = self.client.create_environment(**of_it, Name="production")["Id"]
        self.profile = self.client.create_configuration_profile(
            **of_it, Name="flags", LocationUri="hosted", Type="AWS.AppConfig.FeatureFlags"
        )["Id"]
        # Deployments are listed by the profile's name alone here; AWS tells its id, too.
        self.client.update_configuration_profile(
            **of_it, ConfigurationProfileId=self.profile, Name=self.profile
        )

    def put(self, content: Mapping[str, Any]) -> str:
        """Store a version and return its number."""
        made = self.client.create_hosted_configuration_version(
            ApplicationId=self.application,
            ConfigurationProfileId=self.profile,
            Content=json.dumps(content).encode(),
            ContentType="application/json",
        )
        return str(made["VersionNumber"])

    def deploy(self, version: str, *, minutes: int = 0) -> int:
        """Deploy a version, at once or in so many minutes."""
        strategy = self.client.create_deployment_strategy(
            Name=f"in-{minutes}-{version}",
            DeploymentDurationInMinutes=minutes,
            FinalBakeTimeInMinutes=0,
            GrowthFactor=10.0 if minutes else 100.0,
            ReplicateTo="NONE",
        )["Id"]
        made = self.client.start_deployment(
            ApplicationId=self.application,
            EnvironmentId=self.environment,
            DeploymentStrategyId=strategy,
            ConfigurationProfileId=self.profile,
            ConfigurationVersion=version,
        )
        return int(made["DeploymentNumber"])

    def stop(self, number: int, *, allow_revert: bool = False) -> None:
        """Stop a deployment, or take it back."""
        self.client.stop_deployment(
            ApplicationId=self.application,
            EnvironmentId=self.environment,
            DeploymentNumber=number,
            AllowRevert=allow_revert,
        )

    def source(self, **more: str) -> Source:
        """Build the source of the profile."""
        given = {
            "application": self.application,
            "environment": self.environment,
            "profile": self.profile,
            "region": self.region,
            **more,
        }
        return Source("prod", "appconfig", self.url, Secret(""), given, allow_http=True)

    def fetch(self, **more: str) -> Any:
        """Fetch a whole set."""
        found = PROVIDER.fetch(self.source(**more), HttpClient(), "").flag_set
        assert found
        return found


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    """Run an emulated endpoint that checks signatures."""
    try:
        with StandIn(auth=True) as running:
            yield running
    except StandInMissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def shop(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Give a new application, and the stand-in's credentials."""
    for name, value in stand_in.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return Shop(stand_in)


def test_deployed_document(shop: Shop) -> None:
    """The newest complete deployment's document comes as it was written."""
    values, definitions = rich_flags(8)
    shop.deploy(shop.put(document(values, definitions)))
    found = shop.fetch()
    assert found.sections == {"flags": values, "definitions": definitions}
    assert found.revision == 12


def test_unfinished_stopped_and_reverted_deployments(shop: Shop) -> None:
    """Only a complete deployment makes its version live, and a revert takes it back."""
    first, second = (shop.put(document({"f": {"enabled": on}}, {"f": {}})) for on in (False, True))

    def enabled() -> bool:
        return bool(shop.fetch().sections["flags"]["f"]["enabled"])

    shop.deploy(first)
    assert not enabled()
    gradual = shop.deploy(second, minutes=60)
    assert not enabled()
    shop.stop(gradual)
    assert not enabled()
    whole = shop.deploy(second)
    assert enabled()
    shop.stop(whole, allow_revert=True)
    assert not enabled()


def test_signatures(shop: Shop, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with the right secret is served; with another one, refused."""
    shop.deploy(shop.put(document({}, {})))
    iam, name = stand_in.client("iam"), f"reader-{shop.application}"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": "appconfig:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    assert shop.fetch().revision == 12
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(errors.CredentialsRefusedError, match="InvalidSignature"):
        shop.fetch()


def test_missing_profile_and_environment(shop: Shop) -> None:
    """Each has its message."""
    with pytest.raises(errors.EndpointNotFoundError, match="never deployed"):
        shop.fetch()
    with pytest.raises(errors.EndpointNotFoundError, match="check its options"):
        shop.fetch(environment="n0where")
