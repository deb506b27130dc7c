"""What every provider promises. A test class derives from this and says how to build the parts."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import urllib3.util.connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.fault_table import ENDLESS, FAULTS
from contract.fuzz import documents, mutations
from simulators import faults
from storesync import errors
from storesync.http import HttpClient, HttpLimits
from storesync.model import FlagSet, Secret, Source, WebhookConfig, WebhookRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulators.server import ProviderServer
    from storesync.providers.base import Provider

SECRET = Secret("sample-webhook-secret")
PREVIOUS = Secret("previous-webhook-secret")
STRANGERS = Secret("some-strangers-own-secret")
CANARY = "canary-5d1c"
LIMITS = HttpLimits(
    connect_s=30,
    read_s=30,
    total_s=30,  # for a machine that is busy with other things
    max_wire_bytes=2 * 1024 * 1024,
    max_body_bytes=1024 * 1024,
)
SHORT = replace(LIMITS, total_s=0.5)
"""For faults that only the deadline ends: without it their tests would."""


class ProviderContract:
    """Derive, and fill in the parts that differ."""

    provider: Provider
    environment = "production"
    options: dict[str, str]
    """The webhook's options that name the simulator's environment."""
    sample: bytes
    """A webhook's body."""

    def simulator(self, count: int = 12) -> ProviderServer:
        """Build a simulator with so many flags; it is not started."""
        raise NotImplementedError

    def signed(self, body: bytes, secret: Secret, method: str) -> WebhookRequest:
        """Build a request that passes by this method."""
        raise NotImplementedError

    def change(self, server: Any, key: str) -> None:
        """Make a change to a flag."""
        raise NotImplementedError

    def damaged(self, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield documents that are JSON objects, but no flag set."""
        raise NotImplementedError

    # -- fixtures -------------------------------------------------------------------------------

    @pytest.fixture
    def server(self) -> Iterator[Any]:
        """Run a simulator."""
        with self.simulator() as running:
            yield running

    @pytest.fixture(autouse=True)
    def only_this_machine(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Fail whatever opens a connection to another host."""
        dialled: list[str] = []
        dial = urllib3.util.connection.create_connection

        def recording(address: tuple[str, int], *args: Any, **kwargs: Any) -> Any:
            dialled.append(address[0])
            return dial(address, *args, **kwargs)

        monkeypatch.setattr(urllib3.util.connection, "create_connection", recording)
        yield
        assert set(dialled) <= {"127.0.0.1"}

    def source(self, server: Any, **changes: Any) -> Source:
        """Build the source that a simulator serves."""
        source = Source(
            "prod", self.provider.name, server.url, Secret(server.sdk_key), allow_http=True
        )
        return replace(source, **changes)

    def webhook(self, method: str = "", *secrets: Secret, **options: str) -> WebhookConfig:
        """Build a webhook config."""
        return WebhookConfig(
            "prod",
            self.provider.name,
            method or self.provider.methods[0],
            secrets or (SECRET,),
            "x-webhook-key",
            options,
        )

    def fetch(
        self, server: Any, etag: str = "", limits: HttpLimits = LIMITS, **changes: Any
    ) -> Any:
        """Fetch once."""
        source = self.source(server, **changes)
        return self.provider.fetch(source, HttpClient(limits), etag)

    def fails(self, server: Any, name: str) -> BaseException:
        """Fetch from a server that has a fault; return the error, of the class that it must have.

        What never ends is ended by the deadline, as the message says.
        """
        _, error, wait = FAULTS[name]
        endless = name in ENDLESS
        with pytest.raises(error, match=r"within \S+ s" if endless else None) as caught:
            self.fetch(server, limits=SHORT if endless else LIMITS)
        assert type(caught.value) is error
        assert caught.value.retry_after_s == (wait and pytest.approx(wait, abs=6))
        return caught.value

    def set_of(self, server: Any) -> FlagSet:
        """Fetch a whole set."""
        response = self.fetch(server)
        assert isinstance(response.flag_set, FlagSet)
        return response.flag_set

    def webhook_after(self, server: Any, change: Callable[[], object]) -> WebhookRequest:
        """Make a change and return the webhook that the simulator tried to send."""
        server.webhook("http://127.0.0.1:9/webhooks/prod", SECRET.reveal())
        change()
        server.settle()
        delivery = server.deliveries[-1]
        headers = {name.lower(): value for name, value in delivery.headers.items()}
        return WebhookRequest(headers, delivery.body)

    def required_after(
        self, server: Any, change: Callable[[], object], **options: str
    ) -> tuple[str, ...] | None:
        """Make a change and return the revisions that the provider says to reach."""
        request = self.webhook_after(server, change)
        return self.provider.webhook_event(request, self.webhook(**options)).required

    # -- description ----------------------------------------------------------------------------

    def test_it_describes_itself(self) -> None:
        """Names, methods and the status that counts as delivered are there for everybody else."""
        provider = self.provider
        assert provider.name == provider.name.lower()
        assert provider.title
        assert set(provider.methods) <= {"signature", "authorization", "header", "url"}
        assert provider.accepted_status in {200, 202}
        assert provider.default_base_url.startswith("https://") or not provider.default_base_url

    # -- verification ---------------------------------------------------------------------------

    def test_every_active_secret_passes(self) -> None:
        """While a secret is being replaced, deliveries with either are accepted."""
        for method in self.provider.methods:
            for secret in (SECRET, PREVIOUS):
                request = self.signed(self.sample, secret, method)
                self.provider.verify(request, self.webhook(method, SECRET, PREVIOUS))

    def test_a_replaced_secret_no_longer_passes(self) -> None:
        """Once it is removed from the webhook config, the previous secret is a stranger's."""
        for method in self.provider.methods:
            for secret in (PREVIOUS, STRANGERS):
                request = self.signed(self.sample, secret, method)
                with pytest.raises(errors.SignatureError):
                    self.provider.verify(request, self.webhook(method, SECRET))

    def test_a_missing_secret_does_not_pass(self) -> None:
        """Neither nothing, nor an empty text, nor an empty secret opens the door."""
        for method in self.provider.methods:
            empty = Secret("")
            for request in (
                WebhookRequest({}, self.sample),
                self.signed(self.sample, empty, method),
            ):
                for webhook_config in (self.webhook(method), self.webhook(method, empty)):
                    with pytest.raises(errors.SignatureError):
                        self.provider.verify(request, webhook_config)

    def test_refusals_tell_no_secret(self) -> None:
        """What was sent, and what would have been right, stay out of the message."""
        for method in self.provider.methods:
            request = self.signed(self.sample, Secret(CANARY), method)
            with pytest.raises(errors.SignatureError) as caught:
                self.provider.verify(request, self.webhook(method, SECRET))
            assert CANARY not in str(caught.value)
            assert SECRET.reveal() not in str(caught.value)

    def test_a_simulated_webhook_passes_and_requests(self, server: Any) -> None:
        """What a provider sends after a change is accepted, and names a revision to reach."""
        key = next(iter(server.flags()))
        request = self.webhook_after(server, lambda: self.change(server, key))
        self.provider.verify(request, self.webhook())
        assert self.provider.webhook_event(request, self.webhook()).required is not None
        event = self.provider.webhook_event(request, self.webhook(**self.options))
        assert event.required
        assert event.delivery

    def test_nothing_forged_passes_and_nothing_else_is_raised(self) -> None:
        """Mutated headers and bodies are refused, and only ever with our own errors."""
        verify = self._verified

        @settings(suppress_health_check=list(HealthCheck), database=None)
        @given(st.data())
        def fuzz(data: st.DataObject) -> None:
            method = data.draw(st.sampled_from(self.provider.methods))
            signer = data.draw(st.sampled_from([SECRET, STRANGERS]))
            request = self.signed(self.sample, signer, method)
            mutated, same = data.draw(mutations(request))
            accepted = verify(mutated, self.webhook(method, SECRET))
            assert accepted <= (signer == SECRET)
            if method == "signature":
                assert accepted <= (mutated.body == request.body)
            if same:
                assert accepted == (signer == SECRET)
            self.provider.webhook_event(mutated, self.webhook(method, **self.options))

        fuzz()

    def test_any_json_that_is_verified_is_survived(self) -> None:
        """A body of any shape is a sync request or an event that concerns no flags."""

        @settings(database=None)
        @given(documents(self.sample))
        def fuzz(body: bytes) -> None:
            request = WebhookRequest({}, body)
            required, delivery = self.provider.webhook_event(request, self.webhook(**self.options))
            assert required is None or all(isinstance(text, str) for text in required)
            assert isinstance(delivery, str)

        fuzz()

    def test_any_event_of_aws_is_survived(self) -> None:
        """An event of any shape is the provider's own or none of its business."""

        @settings(database=None)
        @given(documents(self.sample))
        def fuzz(body: bytes) -> None:
            with contextlib.suppress(ValueError, RecursionError):
                event = json.loads(body)
                if isinstance(event, dict):
                    provider_event = self.provider.provider_event(event)
                    assert provider_event is None or provider_event.provider == self.provider.name

        fuzz()

    def _verified(self, request: WebhookRequest, webhook_config: WebhookConfig) -> bool:
        try:
            self.provider.verify(request, webhook_config)
        except errors.SignatureError:
            return False
        return True

    # -- fetching -------------------------------------------------------------------------------

    def test_a_fetch_brings_every_item_as_it_is(self, server: Any) -> None:
        """Flags and segments come back by key, verbatim, in one request."""
        response = self.fetch(server)
        flag_set = response.flag_set
        assert flag_set.provider == self.provider.name
        assert dict(flag_set.sections["flags"]) == server.flags()
        assert len(flag_set.sections["segments"]) == 3
        assert response.etag
        assert len(server.requests) == 1

    def test_an_unchanged_set_is_not_sent_again(self, server: Any) -> None:
        """With its ETag, the same set costs a request without a body."""
        etag = self.fetch(server).etag
        again = self.fetch(server, etag)
        assert (again.flag_set, again.etag) == (None, etag)
        self.change(server, next(iter(server.flags())))
        changed = self.fetch(server, etag)
        assert changed.flag_set is not None
        assert changed.etag != etag

    def test_equal_states_give_equal_sets(self, server: Any) -> None:
        """What the document says beside the flags is stable while nothing changes."""
        first, second = self.set_of(server), self.set_of(server)
        assert (first.sections, first.meta) == (second.sections, second.meta)

    def test_deleted_flags_are_gone(self, server: Any) -> None:
        """A flag that the provider no longer serves is not in the set."""
        key = next(iter(server.flags()))
        server.remove_flag(key)
        assert key not in self.set_of(server).sections["flags"]

    def test_an_empty_set_is_a_set(self, server: Any) -> None:
        """Judging a shrinking set is the guard's work, with its own error."""
        server.faults.append(faults.empty_set())
        assert self.set_of(server).sections == {"flags": {}, "segments": {}}

    @pytest.mark.parametrize("name", FAULTS)
    def test_faults_have_their_class_and_keep_the_deadline(self, server: Any, name: str) -> None:
        """Whatever goes wrong is told apart in time, in one request, and tells no credential."""
        server.faults.append(FAULTS[name][0])
        message = str(self.fails(server, name))
        assert server.sdk_key not in message
        assert len(message) < 250
        assert len(server.requests) == 1

    def test_a_redirect_is_not_followed(self, server: Any) -> None:
        """A redirect to a server that would respond gets no request there, and no key."""
        with self.simulator() as other:
            server.faults.append(faults.redirect(other.url + "/sdk/latest-all", 307))
            with pytest.raises(errors.EndpointNotFoundError, match="redirects"):
                self.fetch(server)
            assert not other.requests

    def test_refused_credentials_name_the_source(self, server: Any) -> None:
        """A wrong key is nobody's mistake but the credential's, and the message says whose."""
        with pytest.raises(errors.CredentialsRefusedError, match="prod") as caught:
            self.fetch(server, credential=Secret(CANARY))
        assert CANARY not in str(caught.value)

    def test_a_key_that_cannot_be_sent_is_a_configuration_error(self, server: Any) -> None:
        """The line break that an editor appends is named, without the key around it."""
        with pytest.raises(errors.ConfigurationError, match="Authorization") as caught:
            self.fetch(server, credential=Secret(CANARY + "\n"))
        assert CANARY not in str(caught.value)

    def test_plain_http_needs_to_be_allowed(self, server: Any) -> None:
        """Nobody sends a key in the clear by leaving out a letter."""
        with pytest.raises(errors.ConfigurationError, match="https"):
            self.fetch(server, allow_http=False)
        assert not server.requests

    def test_damaged_documents_are_malformed(self, server: Any) -> None:
        """JSON that is no flag set of this provider never becomes one."""
        for document in self.damaged(json.loads(server.document())):
            server.faults.append(faults.body(json.dumps(document).encode()))
            with pytest.raises(errors.MalformedResponseError):
                self.fetch(server)

    # -- freshness ------------------------------------------------------------------------------

    def test_a_lagging_response_has_not_reached_the_request(self, server: Any) -> None:
        """The revision of a webhook tells a response from before the change from one after."""
        key = next(iter(server.flags()))
        server.lag(requests=1)
        required = self.required_after(server, lambda: self.change(server, key), **self.options)
        stale, fresh = self.set_of(server), self.set_of(server)
        assert required
        assert not all(self._satisfied(text, stale) for text in required)
        assert all(self._satisfied(text, fresh) for text in required)
        assert self.provider.is_older(fresh, stale)
        assert not self.provider.is_older(stale, fresh)
        assert not self.provider.is_older(fresh, fresh)

    def test_a_removed_flag_is_waited_for(self, server: Any) -> None:
        """The sync request of a removal is reached when the flag is gone, and not before."""
        key = next(iter(server.flags()))
        server.lag(requests=1)
        required = self.required_after(
            server, lambda: server.remove_flag(key, archive=True), **self.options
        )
        assert required
        assert not all(self._satisfied(text, self.set_of(server)) for text in required)
        assert all(self._satisfied(text, self.set_of(server)) for text in required)

    def test_an_unknown_notation_holds_nobody_up(self, server: Any) -> None:
        """A sync request that an older or newer version wrote is served, not waited for."""
        flag_set = self.set_of(server)
        for text in ("", "x", "/", "future/9", "flag/", "revision/"):
            assert self._satisfied(text, flag_set)

    def _satisfied(self, required: str, flag_set: FlagSet) -> bool:
        return self.provider.satisfied(
            required, flag_set.revision, lambda section, key: flag_set.sections[section].get(key)
        )

    # -- members --------------------------------------------------------------------------------

    def test_members_of_segments_are_named(self, server: Any) -> None:
        """Every segment of the sample names somebody, and no shape of one raises."""
        for segment in self.set_of(server).sections["segments"].values():
            assert self.provider.members(segment)
        for odd in (None, [], {}, "text", {"constraints": [[]]}, {"included": {}}):
            assert self.provider.members(odd) == frozenset()
