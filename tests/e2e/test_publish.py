"""`sam package` and `sam publish` to the Serverless Application Repository, which is simulated."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import flagstore
from local import deploy
from local.stand_in import REPOSITORY, StandIn
from simulators.scripted_server import ScriptedServer, http_response
from simulators.template import as_text
from tests.docs.pages import blocks

from .deployments import SAM, needs_stand_in

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.build, pytest.mark.e2e, pytest.mark.campaign]

WITHIN_S = 120.0
BUILT = REPOSITORY / ".aws-sam" / "build" / "template.yaml"
ENDPOINT = "AWS_ENDPOINT_URL_SERVERLESSAPPLICATIONREPOSITORY"
CREATED = http_response(201, b'{"applicationId": "arn:aws:serverlessrepo:::flagstore"}')
PROGRAM = """#!/bin/sh
case $1 in
  build) ;;  # it is
  package) exec {sam} "$@" --template-file {built} --region {region} ;;
  *) exec {sam} "$@" --region {region} ;;
esac
"""


def test_publish_sends_one_application(tmp_path: Path) -> None:
    """Built, packaged and published as docs/releasing.md has it; all files are uploaded."""
    needs_stand_in()
    (script,) = (each.text for each in blocks("docs/releasing.md") if "sam publish" in each.text)
    deploy.build(REPOSITORY)
    with StandIn(auth=True, ca=trustme.CA()) as aws, ScriptedServer(CREATED) as repository:
        aws.client("s3").create_bucket(
            Bucket="releases", CreateBucketConfiguration={"LocationConstraint": aws.region}
        )
        environment = {
            **aws.child_environment(os.environ),
            **deploy._sam_settings(SAM),
            ENDPOINT: repository.uri,
        }
        program = tmp_path / "sam"
        program.write_text(PROGRAM.format(sam=SAM, built=BUILT, region=aws.region))
        program.chmod(0o755)
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
        with deploy.using_build(REPOSITORY):
            deploy._run(
                ["/bin/bash", "-euc", script.replace("<bucket>", "releases")],
                repository=tmp_path,
                environment=environment,
                within_s=WITHIN_S,
            )
        (request,) = repository.requests
        sent = json.loads(request.body)
        assert (request.method, request.path) == ("POST", "/applications")
        assert (sent["name"], sent["spdxLicenseId"]) == ("flagstore", "Apache-2.0")
        assert sent["semanticVersion"] == flagstore.__version__
        assert "launchdarkly" in sent["labels"]
        assert not {"homePageUrl", "sourceCodeUrl"} & set(sent)
        for field_name, name in (("licenseUrl", "LICENSE"), ("readmeUrl", "README.md")):
            assert stored(aws, sent[field_name]) == (REPOSITORY / name).read_bytes()
        packed = {}
        for name, resource in as_text(sent["templateBody"])["Resources"].items():
            properties = resource.get("Properties", {})
            if uri := properties.get("CodeUri") or properties.get("ContentUri"):
                packed[name] = stored(aws, uri)
        functions = {f"{name}Function" for name in ("Webhook", "Sync", "Serve", "Usage")}
        assert set(packed) == functions | {"FlagstoreLayer", "FlagstoreNodeLayer"}
        assert all(data.startswith(b"PK") for data in packed.values())


def stored(aws: StandIn, uri: Any) -> bytes:
    """Return an object of the bucket by its s3:// or https:// address."""
    key = uri.rpartition("/")[2]
    body: bytes = aws.client("s3").get_object(Bucket="releases", Key=key)["Body"].read()
    return body
