"""The contract of every provider. Test classes derive from it and define how to build the parts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import urllib3.util.connection
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators import faults
from storesync import errors
from storesync.http import HttpClient, HttpLimits
from storesync.model import FlagSet, Secret, Source, WebhookConfig, WebhookRequest
from storesync.providers.base import json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulators.server import ProviderServer
    from storesync.providers.base import Provider

SECRET = Secret("sample-webhook-secret")
CANARY = "canary-5d1c"
LIMITS = HttpLimits(
    connect_s=30,
    total_s=30,  # for a machine that is busy with other things
    max_body_bytes=1024 * 1024,
)
SHORT = replace(LIMITS, total_s=0.5)
"""For faults that only the deadline ends: without it their tests would."""

_GONE = (errors.ProviderUnavailableError, None)
_FINAL = (errors.EndpointNotFoundError, None)
_RUBBISH = (errors.MalformedResponseError, None)
FAULTS: dict[str, tuple[faults.Fault, type[errors.ProviderError], float | None]] = {
    "401": (faults.status(401), errors.CredentialsRefusedError, None),
    "403": (faults.status(403), errors.CredentialsRefusedError, None),
    "404": (faults.status(404), *_FINAL),
    "405": (faults.status(405), *_FINAL),
    "408": (faults.status(408), *_GONE),
    "429 in seconds": (faults.status(429, retry_after="7"), errors.ProviderUnavailableError, 7.0),
    "429 with a date": (faults.too_many_requests_until(7), errors.ProviderUnavailableError, 7.0),
    **{str(code): (faults.status(code), *_GONE) for code in range(500, 505)},
    "503 for an hour": (
        faults.status(503, retry_after="3600"),
        errors.ProviderUnavailableError,
        900.0,
    ),
    "reset": (faults.reset(), *_GONE),
    "silence": (faults.silence(), *_GONE),
    "drip of headers": (faults.drip_headers(), *_GONE),
    "drip of the body": (faults.drip_body(), *_GONE),
    "wrong length": (faults.wrong_length(), *_GONE),
    "truncated gzip": (faults.truncated_gzip(), *_RUBBISH),
    "HTML with 200": (faults.html(), *_RUBBISH),
    "endless body": (faults.endless_body(), *_RUBBISH),
    "compression bomb": (faults.bomb(), *_RUBBISH),
    "malformed JSON": (faults.malformed_json(), *_RUBBISH),
    "no object": (faults.body(b"[]"), *_RUBBISH),
    "another object": (faults.body(b'{"message":"welcome"}'), *_RUBBISH),
    "204": (faults.status(204), *_RUBBISH),
    "304 without an ETag": (faults.status(304), *_RUBBISH),
    "redirect": (faults.redirect(), *_FINAL),
}
"""Each fault, the class of error that it is, and the wait that it asks for."""
ENDLESS = frozenset({"silence", "drip of headers", "drip of the body"})


def documents(sample: bytes) -> st.SearchStrategy[bytes]:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    )
    document = json.loads(sample)
    replaced = st.builds(
        lambda key, value: {**document, key: value}, st.sampled_from(sorted(document)), values
    )
    return st.one_of(values, replaced).map(lambda value: json.dumps(value).encode())


class ProviderContract:
    """Derive, and fill in the parts that differ."""

    provider: Provider
    simulated: tuple[Callable[..., ProviderServer], Callable[[int], Any]]
    """The simulator, and the function that makes its flags."""
    options: dict[str, str]
    """The webhook's options that name the simulator's environment."""
    sample: bytes
    """A webhook's body."""
    changed: dict[str, Any]

    def signed(self, body: bytes, secret: Secret, method: str) -> WebhookRequest:
        raise NotImplementedError

    def simulator(self) -> Any:
        build, flags = self.simulated
        return build(*flags(12))

    def change(self, server: Any, key: str) -> None:
        server.set_flag(key, **self.changed)

    # -- fixtures -------------------------------------------------------------------------------

    @pytest.fixture
    def server(self) -> Iterator[Any]:
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
        source = Source(
            "prod", self.provider.name, server.url, Secret(server.sdk_key), allow_http=True
        )
        return replace(source, **changes)

    def webhook(self, method: str = "", *secrets: Secret) -> WebhookConfig:
        return WebhookConfig(
            "prod",
            self.provider.name,
            method or self.provider.methods[0],
            secrets or (SECRET,),
            "x-webhook-key",
        )

    def fetch(
        self, server: Any, etag: str = "", limits: HttpLimits = LIMITS, **changes: Any
    ) -> Any:
        source = self.source(server, **changes)
        return self.provider.fetch(source, HttpClient(limits), etag)

    def fails(self, server: Any, name: str) -> BaseException:
        """Return the error of a fetch; the deadline ends whatever never ends, and is reported."""
        _, error, wait = FAULTS[name]
        endless = name in ENDLESS
        with pytest.raises(error, match=r"within \S+ s" if endless else None) as caught:
            self.fetch(server, limits=SHORT if endless else LIMITS)
        assert type(caught.value) is error
        assert caught.value.retry_after_s == (wait and pytest.approx(wait, abs=6))
        return caught.value

    def set_of(self, server: Any) -> FlagSet:
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
        """Make a change and return the revisions to reach that the provider reports."""
        event = json_object(self.webhook_after(server, change).body)
        return self.provider.webhook_event(event, options).required

    # -- verification ---------------------------------------------------------------------------

    def test_missing_secret(self) -> None:
        """Neither nothing, nor an empty string, nor an empty secret is accepted."""
        empty = Secret("")
        for method in self.provider.methods:
            for request in (
                WebhookRequest({}, self.sample),
                self.signed(self.sample, empty, method),
            ):
                for secret in (SECRET, empty):
                    with pytest.raises(errors.SignatureError):
                        self.provider.verify(request, self.webhook(method, secret))

    def test_simulated_webhook(self, server: Any) -> None:
        """A change requires a revision, unless the webhook is for another environment."""
        key = next(iter(server.flags()))
        request = self.webhook_after(server, lambda: self.change(server, key))
        self.provider.verify(request, self.webhook())
        sent = json_object(request.body)
        assert self.provider.webhook_event(sent, {}).required is not None
        event = self.provider.webhook_event(sent, self.options)
        assert event.required
        assert event.delivery
        for option in self.options:
            other = {**self.options, option: "another"}
            assert self.provider.webhook_event(sent, other).required is None

    def test_any_json(self) -> None:
        """A body of any shape is a sync request or an event that concerns no flags."""

        @settings(database=None)
        @given(documents(self.sample))
        def fuzz(body: bytes) -> None:
            required, delivery = self.provider.webhook_event(json_object(body), self.options)
            assert required is None or all(isinstance(text, str) for text in required)
            assert isinstance(delivery, str)

        fuzz()

    # -- fetching -------------------------------------------------------------------------------

    def test_fetch(self, server: Any) -> None:
        """Flags and segments come back by key, verbatim, in one request."""
        response = self.fetch(server)
        flag_set = response.flag_set
        assert flag_set.provider == self.provider.name
        assert dict(flag_set.sections["flags"]) == server.flags()
        assert len(flag_set.sections["segments"]) == 3
        assert response.etag
        assert len(server.requests) == 1

    def test_unchanged_set(self, server: Any) -> None:
        """With its ETag, the same set costs a request without a body."""
        etag = self.fetch(server).etag
        again = self.fetch(server, etag)
        assert (again.flag_set, again.etag) == (None, etag)
        self.change(server, next(iter(server.flags())))
        changed = self.fetch(server, etag)
        assert changed.flag_set is not None
        assert changed.etag != etag

    def test_deleted_flag(self, server: Any) -> None:
        """A deleted flag is not in the set; nothing else of a set changes by itself."""
        first, second = self.set_of(server), self.set_of(server)
        assert first == second
        key = next(iter(server.flags()))
        server.remove_flag(key)
        assert key not in self.set_of(server).sections["flags"]

    def test_empty_set(self, server: Any) -> None:
        """Refusing a shrinking set is up to the guard."""
        server.faults.append(faults.empty_set())
        assert set(map(len, self.set_of(server).sections.values())) == {0}

    @pytest.mark.parametrize("name", FAULTS)
    def test_faults(self, server: Any, name: str) -> None:
        """Each fault has its error class, in time, in one request, without a credential."""
        server.faults.append(FAULTS[name][0])
        message = str(self.fails(server, name))
        assert server.sdk_key not in message
        assert len(message) < 250
        assert len(server.requests) == 1

    def test_refused_credentials(self, server: Any) -> None:
        """The message names the source whose credential was refused."""
        with pytest.raises(errors.CredentialsRefusedError, match="prod") as caught:
            self.fetch(server, credential=Secret(CANARY))
        assert CANARY not in str(caught.value)

    def test_plain_http_must_be_allowed(self, server: Any) -> None:
        """Without allow_http, a key is never sent in the clear."""
        with pytest.raises(errors.ConfigurationError, match="https"):
            self.fetch(server, allow_http=False)
        assert not server.requests

    # -- freshness ------------------------------------------------------------------------------

    def test_lagging_response(self, server: Any) -> None:
        """The webhook's revision distinguishes responses from before and after the change."""
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
        self.change(server, key)
        assert all(self._satisfied(text, self.set_of(server)) for text in required)

    def test_removed_flag_is_required(self, server: Any) -> None:
        """A removal is reached when the flag is gone, and not before."""
        key = next(iter(server.flags()))
        server.lag(requests=1)
        required = self.required_after(server, lambda: server.remove_flag(key), **self.options)
        assert required
        assert not all(self._satisfied(text, self.set_of(server)) for text in required)
        assert all(self._satisfied(text, self.set_of(server)) for text in required)

    def test_unknown_notation(self, server: Any) -> None:
        """A required revision of another version of flagstore counts as reached."""
        flag_set = self.set_of(server)
        numbers = ("", "x", "-1", "@", "@²", "9" * 5_000)
        kinds = ("flag", "revision", "change", "complete")
        for text in ("", "x", "/", "future/9", *(f"{a}/{b}" for a in kinds for b in numbers)):
            assert self._satisfied(text, flag_set)

    def test_incomparable_revisions(self) -> None:
        """Revisions of another query or other flag sets, and missing ones, show nothing."""
        name = self.provider.revisions_of
        old = FlagSet(self.provider.name, {}, {name: "a"}, 7)
        for new in (replace(old, meta={name: "b"}, revision=6), replace(old, revision=0)):
            assert not self.provider.is_older(old, new)

    def _satisfied(self, required: str, flag_set: FlagSet) -> bool:
        return self.provider.satisfied(
            required, flag_set.revision, lambda section, key: flag_set.sections[section].get(key)
        )

    # -- members --------------------------------------------------------------------------------

    def test_members(self, server: Any) -> None:
        """Each segment of the sample has members, and no shape of one raises."""
        for segment in self.set_of(server).sections["segments"].values():
            assert self.provider.members(segment)
        for odd in (None, [], {}, "text", {"constraints": [[]]}, {"included": {}}):
            assert self.provider.members(odd) == frozenset()
