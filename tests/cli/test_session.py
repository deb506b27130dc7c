"""AWS as a person chose it: profile and region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulators.appconfig import AppConfigSimulator, rich_flags

if TYPE_CHECKING:
    from tests.cli.rig import Rig


def test_the_region_of_either_variable(rig: Rig) -> None:
    """AWS_REGION is enough, as with the AWS command line; boto3 alone does not know it."""
    none: dict[str, str | None] = {"AWS_DEFAULT_REGION": None, "AWS_REGION": None}
    assert rig.run("status", env=none).code == 4
    assert rig.run("status", env={**none, "AWS_REGION": "eu-west-1"}).code == 0
    assert rig.run("status", env={**none, "AWS_DEFAULT_REGION": "eu-west-1"}).code == 0


def test_appconfig_is_asked_with_the_profile_that_is_named(rig: Rig) -> None:
    """Its requests are signed with --profile and --region, whatever the variables hold."""
    with AppConfigSimulator(*rich_flags(5)) as server:
        keys = f"aws_access_key_id={server.access_key}\naws_secret_access_key={server.sdk_key}\n"
        env: dict[str, str | None] = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}
        env["AWS_SHARED_CREDENTIALS_FILE"] = rig.file("profiles", f"[ops]\n{keys}")
        options = [f"--option={name}={text}" for name, text in server.options.items()]
        add = ("source", "add", "shop", "--provider", "appconfig", *options)
        add = (*add, "--base-url", server.url, "--allow-http", "--region", "eu-west-1")
        assert rig.run(*add, env=env).code == 7
        done = rig.run(*add, "--profile", "ops", env=env)
    assert done.code == 0, done
    assert "it can be read from here: 5 flags" in done.out
