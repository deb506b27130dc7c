"""The contract, for each provider; and checks against recordings of real servers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from contract.provider_contract import CANARY, FAULTS, SECRET, ProviderContract, documents
from data import DATA
from simulators import appconfig, appconfig_flags, faults, launchdarkly, split, unleash
from simulators.launchdarkly_flags import new_flag
from simulators.server import compact
from storesync import errors, providers
from storesync.model import Secret, Source, WebhookConfig, WebhookRequest
from storesync.providers.unleash import Unleash

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
QUEUED = {"Records": [{"body": '{"source": "prod"}'}]}
RECORDED = sorted((DATA / "unleash" / "webhooks").glob("*/*.json"))


class TestLaunchDarkly(ProviderContract):
    provider = providers.get("launchdarkly")
    simulated = launchdarkly.LaunchDarklySimulator, launchdarkly.rich_flags
    changed = {"on": False}  # noqa: RUF012 - never changed
    options = {"project": "shop", "environment": "production"}  # noqa: RUF012 - never changed
    sample = compact(
        launchdarkly.audit_entry("flag", "dark-mode", "updateOn", after=new_flag("dark-mode"))
    )

    def signed(self, body: bytes, secret: Secret, method: str) -> WebhookRequest:
        assert method == "signature"
        signature = launchdarkly.sign(body, secret.reveal())
        return WebhookRequest(
            {launchdarkly.SIGNATURE_HEADER.lower(): signature, "user-agent": "x"}, body
        )

    def test_bad_request_is_retried(self, server: Any) -> None:
        """LaunchDarkly's own SDKs keep polling after 400."""
        server.faults.append(faults.status(400))
        with pytest.raises(errors.ProviderUnavailableError):
            self.fetch(server)


class TestUnleash(ProviderContract):
    provider = providers.get("unleash")
    simulated = unleash.UnleashSimulator, unleash.rich_flags
    changed = {"strategies": []}  # noqa: RUF012 - never changed
    options = {"environment": "production"}  # noqa: RUF012 - never changed
    sample = compact(unleash.event(42, "feature-environment-enabled", flag="dark-mode", **options))

    def signed(self, body: bytes, secret: Secret, method: str) -> WebhookRequest:
        text = secret.reveal()
        if method == "url":
            return WebhookRequest({}, body, text)
        name = {"authorization": "authorization", "header": "x-webhook-key"}[method]
        return WebhookRequest({name: text, "content-type": "application/json"}, body)

    def test_new_segment_requires_no_revision(self, server: Any) -> None:
        """A new segment has no revision to require; the next event's includes it."""
        assert self.required_after(server, lambda: server.set_segment(9), **self.options) == ()
        assert "9" not in self.set_of(server).sections["segments"]
        server.set_segment(9, name="changed")
        assert "9" in self.set_of(server).sections["segments"]


class TestSplit(ProviderContract):
    """Split keeps the contract, with several requests a fetch and no ETag."""

    provider = providers.get("split")
    simulated = split.SplitSimulator, split.rich_flags
    changed = {"killed": True}  # noqa: RUF012 - never changed
    options = {"environment": "production"}  # noqa: RUF012 - never changed
    sample = compact(
        split.event({**split.new_flag("dark-mode"), "changeNumber": 42}, environment="production")
    )

    def signed(self, body: bytes, secret: Secret, method: str) -> WebhookRequest:
        assert method == "url"
        return WebhookRequest({"content-type": "application/json"}, body, secret.reveal())

    def webhook_after(self, server: Any, change: Callable[[], object]) -> WebhookRequest:
        """Take the secret from the URL, as API Gateway does."""
        request = super().webhook_after(server, change)
        return replace(request, token=server.deliveries[-1].url.rpartition("/")[2])

    def test_fetch(self, server: Any) -> None:
        """Flags come back by name, verbatim, and segments as their keys, in requests by threes."""
        response = self.fetch(server)
        sections = response.flag_set.sections
        assert response.flag_set.provider == "split"
        assert sections["flags"] == server.flags()
        assert sections["rule_based_segments"] == server.rule_based()
        assert {name: segment["keys"] for name, segment in sections["segments"].items()} == (
            server.segments()
        )
        assert len(sections["segments"]) == 3
        assert (response.etag, response.flag_set.revision) == ("", server.revision)
        assert len(server.requests) == 2 + 2 * 3

    def test_unchanged_set(self, server: Any) -> None:
        """There is no ETag: an unchanged set is sent again, and is the same."""
        first, again = self.fetch(server), self.fetch(server, '"an-etag"')
        assert again == first
        assert "if-none-match" not in server.requests[-1].headers

    @pytest.mark.parametrize("name", FAULTS)
    @pytest.mark.parametrize("after", [1, 2])
    def test_fault_of_any_request_fails_the_fetch(self, server: Any, name: str, after: int) -> None:
        """Neither a second page nor a segment may be missing, and all share one deadline."""
        server.faults.extend([None] * after + [FAULTS[name][0]])
        self.fails(server, name)


class TestAppConfig(ProviderContract):
    """AppConfig keeps the contract, without webhooks and keys, and with two requests a fetch."""

    provider = providers.get("appconfig")
    simulated = appconfig.AppConfigSimulator, appconfig.rich_flags
    changed = {"enabled": True, "limit": 99}  # noqa: RUF012 - never changed
    options = {}  # noqa: RUF012 - never changed
    sample = compact(
        appconfig_flags.event(
            "OnDeploymentComplete", 42, version=7, ids=appconfig.AppConfigSimulator().ids
        )
    )

    @pytest.fixture(autouse=True)
    def role(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        for name, value in self.simulator().environ.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        return monkeypatch

    def source(self, server: Any, **changes: Any) -> Source:
        source = super().source(server, credential=Secret(""), options=server.options)
        return replace(source, **changes)

    def required_after(
        self, server: Any, change: Callable[[], object], **_options: str
    ) -> tuple[str, ...] | None:
        change()
        provider_event = self.provider.provider_event(server.events[-1])
        assert provider_event
        return provider_event.required

    def test_no_webhook_is_authentic(self) -> None:
        """AppConfig sends no webhooks."""
        request = WebhookRequest({}, self.sample, SECRET.reveal())
        for method in ("signature", "authorization", "header", "url"):
            with pytest.raises(errors.SignatureError, match="no webhooks"):
                self.provider.verify(request, self.webhook(method))

    def webhook(self, method: str = "url", *secrets: Secret, **options: str) -> WebhookConfig:
        return super().webhook(method or "url", *secrets, **options)

    def test_any_provider_event(self) -> None:
        """An event of any shape belongs to the provider or is ignored."""

        @settings(database=None)
        @given(documents(self.sample))
        def fuzz(body: bytes) -> None:
            with contextlib.suppress(ValueError, RecursionError):
                event = json.loads(body)
                for each in (event, {"detail": event}):
                    if isinstance(each, dict):
                        found = self.provider.provider_event(each)
                        assert found is None or found.provider == self.provider.name

        fuzz()

    def test_simulated_webhook(self, server: Any) -> None:
        """The event after a change names what to reach."""
        key = next(iter(server.flags()))
        required = self.required_after(server, lambda: self.change(server, key))
        assert required == ("complete/2",)

    def test_fetch(self, server: Any) -> None:
        """Values with their rules, and definitions, are verbatim, in two requests."""
        response = self.fetch(server)
        sections = response.flag_set.sections
        stored = json.loads(server.versions[1])
        none: dict[str, Any] = {"new_flags": {}, "deployments": {}}
        assert sections == {"flags": stored["values"], "definitions": stored["flags"], **none}
        assert sections["flags"] == server.flags()
        assert any("rule" in v for f in sections["flags"].values() for v in f.get("_variants", ()))
        assert (response.flag_set.revision, len(server.requests)) == (12, 2)
        assert response.etag

    def test_unchanged_set(self, server: Any) -> None:
        """With its ETag, the same set costs one list of deployments and no document."""
        super().test_unchanged_set(server)
        assert len(server.requests) == 2 + 1 + 2

    def test_empty_set(self, server: Any) -> None:
        """The guard judges shrinking sets, with its own error."""
        server.roll_out(server.put({"version": "1"}))
        assert not any(self.set_of(server).sections.values())

    @pytest.mark.parametrize("name", FAULTS)
    def test_fault_of_second_request_fails_the_fetch(self, server: Any, name: str) -> None:
        """The document's request has the same faults as the list's, and both share a deadline."""
        server.faults.extend([None, FAULTS[name][0]])
        assert len(str(self.fails(server, name))) < 250

    def test_refused_credentials(self, server: Any, role: pytest.MonkeyPatch) -> None:
        """AWS refuses a foreign role, and one with a wrong secret."""
        for name in server.environ:
            role.setenv(name, CANARY)
            with pytest.raises(errors.CredentialsRefusedError, match="'prod'") as caught:
                self.fetch(server)
            assert CANARY not in str(caught.value)

    def test_damaged_documents(self, server: Any) -> None:
        """JSON that is not a list of deployments, or a document of feature flags, is no set."""
        (item, *_) = json.loads(server.document())["Items"]
        lists = [None, {}, [None], [{**item, "State": None}]]
        lists += [[{**item, "DeploymentNumber": number}] for number in (None, "1", True, -1)]
        for items in lists:
            server.faults.append(faults.body(json.dumps({"Items": items}).encode()))
            with pytest.raises(errors.MalformedResponseError):
                self.fetch(server)
        server.faults.append(faults.body(b'{"Items": [], "NextToken": "\\ud800"}'))
        with pytest.raises(errors.MalformedResponseError, match="NextToken"):
            self.fetch(server)
        good = server.current()
        for part in (
            {"version": "2"}, {"version": None}, {"values": []}, {"values": {"a": 1}},
            {"flags": {"a": None}}, {"values": {"": {}}}, {"values": {"\ud800": {}}},
        ):  # fmt: skip
            server.roll_out(server.put(json.dumps({**good, **part}).encode()))
            with pytest.raises(errors.MalformedResponseError):
                self.fetch(server)
        server.roll_out(server.put(b'{"featureEnabled": true}'))
        with pytest.raises(errors.MalformedResponseError, match="freeform"):
            self.fetch(server)

    def test_members(self, server: Any) -> None:
        """There are no segments."""
        assert "segments" not in self.set_of(server).sections
        assert self.provider.members({"keys": ["a"]}) == frozenset()


def test_unknown_provider() -> None:
    """The error lists the known providers."""
    with pytest.raises(errors.ConfigurationError, match=r"'launchdarky'.*launchdarkly.*unleash"):
        providers.get("launchdarky")


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        (
            "from storesync import providers; [providers.get(n) for n in providers.names()]",
            ("requests", "urllib3", "http.client", "ssl"),
        ),
        (
            f"from storesync.sync import parse; parse({QUEUED})",
            tuple(f"storesync.providers.{name}" for name in providers.names()),
        ),
        ("import storesync.sync", ("redis", "asyncio")),
        (
            "import storesync.webhook",
            ("requests", "storesync.http", "storesync.pipeline", "storesync.stores"),
        ),
    ],
    ids=["providers", "queued requests", "sync", "receiver"],
)
def test_imports(code: str, unwanted: tuple[str, ...]) -> None:
    """A function does not import modules that it never uses."""
    code = f"import sys; {code}; sys.exit(any(m in sys.modules for m in {unwanted}))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not RECORDED, reason="allowed: no recorded webhooks (see CONFORMANCE_DATA)")
def test_webhooks_of_real_servers() -> None:
    """Recorded webhooks are authentic, and name a revision if the server makes one."""
    provider = Unleash()
    silent = {"segment-created", "segment-deleted", "strategy-created", "tag-created"}
    for path in RECORDED:
        record = json.loads(path.read_text(encoding="utf-8"))
        headers = {name.lower(): value for name, value in record["headers"]}
        request = WebhookRequest(headers, record["body"].encode())
        webhook = WebhookConfig(
            "dev",
            "unleash",
            "authorization",
            (Secret(headers["authorization"].removeprefix("Bearer ")),),
        )
        provider.verify(request, webhook)
        with pytest.raises(errors.SignatureError):
            provider.verify(request, WebhookConfig("dev", "unleash", "authorization", (SECRET,)))
        body = record["body_json"]
        expected = () if body["type"] in silent else (f"revision/{body['id']}",)
        event = provider.webhook_event(body, {"environment": "development"})
        assert event.required == expected, path.name
        assert event.delivery == str(body["id"])
