"""`sam package` and `sam publish` to the Serverless Application Repository, which is simulated."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest
import trustme

import flagstore
from local import deploy
from local.stand_in import DEFAULT_EXECUTABLE, REPOSITORY, StandIn
from simulators.template import as_text
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.build, pytest.mark.e2e, pytest.mark.campaign]

WITHIN_S = 120.0
BUILT = REPOSITORY / ".aws-sam" / "build" / "template.yaml"
ENDPOINT = "AWS_ENDPOINT_URL_SERVERLESSAPPLICATIONREPOSITORY"


@dataclass
class Repository:
    """A context manager: responds as the repository of applications does to a new one.

    The stand-in has no such service. Attributes:
        asked: method, path and body of each request.

    """

    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def __enter__(self) -> Self:
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked.append((self.command, self.path, json.loads(body)))
                response = json.dumps({"applicationId": "arn:aws:serverlessrepo:::flagstore"})
                self.send_response(201)
                self.send_header("Content-Length", str(len(response)))
                self.end_headers()
                self.wfile.write(response.encode())

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"


SAM = """#!/bin/sh
case $1 in
  build) ;;  # it is
  package) exec {sam} "$@" --template-file {built} --region {region} ;;
  *) exec {sam} "$@" --region {region} ;;
esac
"""


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[StandIn, Repository]]:
    """Build, package and publish, as docs/releasing.md has it."""
    sam = REPOSITORY / ".venv-sam" / "bin" / "sam"
    for needed in (DEFAULT_EXECUTABLE, sam):
        if not needed.exists():
            pytest.skip(f"{needed.name} is missing: run `make setup`")
    folder = tmp_path_factory.mktemp("packaged")
    (script,) = (each.text for each in blocks("docs/releasing.md") if "sam publish" in each.text)
    deploy.build(REPOSITORY)
    with StandIn(auth=True, ca=trustme.CA()) as aws, Repository() as repository:
        aws.client("s3").create_bucket(
            Bucket="releases", CreateBucketConfiguration={"LocationConstraint": aws.region}
        )
        environment = {
            **aws.child_environment(os.environ),
            **deploy._sam_settings(sam),
            ENDPOINT: repository.url,
        }
        program = folder / "sam"
        program.write_text(SAM.format(sam=sam, built=BUILT, region=aws.region))
        program.chmod(0o755)
        environment["PATH"] = f"{folder}:{environment['PATH']}"
        with deploy.using_build(REPOSITORY):
            deploy._run(
                ["/bin/bash", "-euc", script.replace("<bucket>", "releases")],
                repository=folder,
                environment=environment,
                within_s=WITHIN_S,
            )
        yield aws, repository


def test_publish_sends_one_application(
    published: tuple[StandIn, Repository],
) -> None:
    """With the name, version and licence of this release."""
    ((method, path, sent),) = published[1].asked
    assert (method, path) == ("POST", "/applications")
    assert (sent["name"], sent["spdxLicenseId"]) == ("flagstore", "Apache-2.0")
    assert sent["semanticVersion"] == flagstore.__version__
    assert "launchdarkly" in sent["labels"]
    assert not {"homePageUrl", "sourceCodeUrl"} & set(sent)


def test_publish_uploads_files(published: tuple[StandIn, Repository]) -> None:
    """The licence, the readme and three zip files."""
    aws, repository = published
    ((_, _, sent),) = repository.asked
    for field_name, name in (("licenseUrl", "LICENSE"), ("readmeUrl", "README.md")):
        assert _object(aws, sent[field_name]) == (REPOSITORY / name).read_bytes()
    resources = as_text(sent["templateBody"])["Resources"]
    packed = {
        name: str(resource["Properties"].get("CodeUri") or resource["Properties"].get("ContentUri"))
        for name, resource in resources.items()
        if resource["Type"].startswith("AWS::Serverless::")
        and {"CodeUri", "ContentUri"} & set(resource["Properties"])
    }
    assert set(packed) == {"WebhookFunction", "SyncFunction", "FlagstoreLayer"}
    assert all(_object(aws, uri).startswith(b"PK") for uri in packed.values())


def _object(aws: StandIn, uri: str) -> bytes:
    """Return an object of the bucket by its s3:// or https:// address."""
    key = uri.rpartition("/")[2]
    body: bytes = aws.client("s3").get_object(Bucket="releases", Key=key)["Body"].read()
    return body
