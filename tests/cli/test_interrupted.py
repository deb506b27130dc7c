"""A key is sent to its own server only, wherever `source add` or `remove` is interrupted.

Every server records its requests: from the command line, and from SyncFunction's code, which runs
on the parameters as they are after each step.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from local.stand_in import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from simulators.appconfig import AppConfigSimulator
from simulators.appconfig import rich_flags as appconfig_flags
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly import rich_flags as launchdarkly_flags
from simulators.memory_store import MemoryStores
from simulators.recorder import Interrupter
from simulators.split import SplitSimulator
from simulators.split import rich_flags as split_flags
from simulators.ssm import Ssm
from simulators.unleash import UnleashSimulator
from simulators.unleash import rich_flags as unleash_flags
from storesync import providers, sync
from storesync.cli.errors import CommandError
from storesync.cli.parameters import AddOptions, SourceParameters, complete, compose
from storesync.config import SyncSettings
from storesync.errors import ConfigurationError
from tests.cli.rig import Admin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.cli.rig import Done, Rig

KINDS = ("webhooks", "credentials", "sources")

type Raw = Mapping[str, str]
"""The parameters of the source: kind to text."""
type Log = tuple[tuple[str, str], ...]
"""The requests that servers received: name and text of each."""


@dataclass(frozen=True)
class Server:
    """One provider's server, with the secrets that only it may see."""

    name: str
    simulator: Any
    key: str
    admin: str
    options: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.name.partition(" ")[0]

    @property
    def address(self) -> tuple[str, ...]:
        """The options that say where it is."""
        return ("--base-url", self.simulator.url, "--allow-http")


@dataclass(frozen=True)
class State:
    """The parameters after an interrupted command, and the requests by then."""

    texts: Raw
    log: Log

    @property
    def shape(self) -> tuple[str, ...]:
        """The parameters without their random secrets."""
        values = {kind: json.loads(self.texts.get(kind, "{}")) for kind in KINDS}
        return tuple(
            f"{kind}: {value.get('provider')} {value.get('base_url')} {len(value)} "
            f"{len(value.get('secrets', ()))}"
            for kind, value in values.items()
        )


@dataclass
class World:
    """A deployment, its providers' servers, and the requests of each."""

    rig: Rig
    gate: Interrupter
    servers: dict[str, Server]
    store: tuple[str, ...]
    """Options that name the store."""
    webhook_secrets: set[str] = field(default_factory=set)
    checks: int = 0

    @cached_property
    def ssm(self) -> Any:
        """A client of SSM that nothing interrupts."""
        return self.rig.aws.client("ssm")

    # -- commands -------------------------------------------------------------------------------

    def add(self, name: str, *more: str) -> tuple[str, ...]:
        """Return the command with all options of a source on one server."""
        server = self.servers[name]
        key = ("--key-file", self.rig.file(f"key {name}", server.key)) if server.key else ()
        options = ("--provider", server.provider, *server.address, *key, *server.options)
        return ("source", "add", "prod", *options, *self.store, *self.registering(name), *more)

    def registering(self, name: str) -> tuple[str, ...]:
        """Return the options that register the webhook, if the provider has an API."""
        server = self.servers[name]
        token = self.rig.file(f"admin {name}", server.admin)
        api = ("--register", "--admin-token-file", token, "--api-url", server.simulator.url)
        return api if server.provider in {"launchdarkly", "unleash"} else ()

    def partial(self, name: str) -> Iterator[tuple[str, ...]]:
        """Yield commands with some options of a server; the stored values apply to the rest."""
        server = self.servers[name]
        change = ("source", "add", "prod", "--replace")
        provider = ("--provider", server.provider, *server.options)
        key = ("--key-file", self.rig.file("key", server.key)) if server.key else ()
        register = self.registering(name)
        yield (*change, "--new-secret")
        yield (*change, "--no-check", *server.address)
        yield (*change, *server.address, *provider, *register)
        if key:
            yield (*change, *key)
            yield (*change, *key, *server.address)
        if server.provider == "unleash":  # the others' usual addresses are on the internet
            yield (*change, *key, *provider)
            yield ("source", "add", "prod", *key, *provider, "--no-check")
        if register:
            yield (*change, *register[:3])

    # -- parameters -----------------------------------------------------------------------------

    def texts(self) -> Raw:
        """Return the parameters as they are."""
        response = self.ssm.get_parameters_by_path(
            Path=self.rig.prefix, Recursive=True, WithDecryption=True
        )
        found = {each["Name"].split("/")[-2]: each["Value"] for each in response["Parameters"]}
        if "webhooks" in found:
            self.webhook_secrets |= set(json.loads(found["webhooks"])["secrets"])
        return found

    def restore(self, texts: Raw) -> None:
        """Write the parameters as they were."""
        names = {kind: f"{self.rig.prefix}/{kind}/prod" for kind in KINDS}
        self.ssm.delete_parameters(Names=list(names.values()))
        for kind, text in texts.items():
            self.ssm.put_parameter(Name=names[kind], Value=text, Type="SecureString")

    # -- effects --------------------------------------------------------------------------------

    def taken(self) -> Log:
        """Return what the servers received since the last time."""
        found = []
        for server in self.servers.values():
            for request in server.simulator.requests:
                text = f"{request.method} {request.path} {dict(request.headers)} {request.body!r}"
                found.append((server.name, text))
            server.simulator.requests.clear()
        return tuple(found)

    def syncs(self, texts: Raw) -> dict[str, Any] | None:
        """Run SyncFunction over some parameters; return how it ended, None without a source."""
        ssm = Ssm()
        for kind in KINDS:
            there = {"prod": texts[kind]} if kind in texts else {}
            ssm.put(f"{self.rig.prefix}/{kind}", there)
        settings = SyncSettings(self.rig.prefix, "", "none", followup_s=0, snapshot_replicas=1)
        syncer = sync.Syncer(settings, ssm=ssm, sqs=Any, stores=MemoryStores())  # type: ignore[arg-type] # as much of SSM as it uses
        return next((outcome.to_json() for outcome in syncer.schedule(60.0)), None)

    def publishes(self) -> None:
        """Fail unless SyncFunction publishes."""
        done = self.syncs(self.texts())
        assert done
        assert done["outcome"] == "published", done

    def check(self, log: Log, *context: object) -> None:
        """Fail if a secret reached a server that is not its own."""
        owners = {secret: each.name for each in self.servers.values() for secret in _own(each)}
        for secret, owner in owners.items():
            strangers = {name for name, text in log if secret in text} - {owner}
            assert not strangers, (owner, strangers, *context)
        for secret in self.webhook_secrets:
            holders = {name for name, text in log if secret in text}
            assert len(holders) <= 1, ("webhook", holders, *context)
        self.checks += 1

    def interrupted(self, start: State, command: Sequence[str]) -> list[State]:
        """Interrupt a command around every call of SSM; return the states that it can leave."""
        found = {start.shape: start}
        for calls in range(100):
            for answered in (True, False):
                self.restore(start.texts)
                self.gate.stop_after(calls, answered=answered)
                done = self.rig.run(*command)
                was_stopped = not self.gate.left
                self.gate.go_on()
                state = State(self.texts(), start.log + self.taken())
                self.check(state.log, "interrupted", command, calls)
                found.setdefault(state.shape, state)
            if not was_stopped:
                assert done.code == 0, done
                return list(found.values())
        raise AssertionError(command)

    def future(self, state: State, *commands: Sequence[str]) -> Done:
        """Run commands after an interruption, with a sync after each; return the last result."""
        self.restore(state.texts)
        log = state.log
        for command in commands:
            done = self.rig.run(*command)
            self.syncs(self.texts())
            log += self.taken()
            self.check(log, state.shape, commands, done)
        return done


def _own(server: Server) -> Iterator[str]:
    yield server.admin
    if server.key:
        yield server.key


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Server]]:
    """Give two servers of each provider."""
    found: dict[str, Server] = {}
    with ExitStack() as stack:
        for copy in "ab":
            mine = f"of-server-{copy}".rjust(30, "0")
            appconfig = AppConfigSimulator(
                *appconfig_flags(5), access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
            )
            simulators: dict[str, Any] = {
                "launchdarkly": LaunchDarklySimulator(
                    *launchdarkly_flags(5), sdk_key=f"sdk-{mine}"
                ),
                "split": SplitSimulator(*split_flags(5), sdk_key=f"split-{mine}"),
                "unleash": UnleashSimulator(
                    *unleash_flags(5), token=f"*:production.unleash-{mine}"
                ),
                "appconfig": appconfig,
            }
            for provider, simulator in simulators.items():
                stack.enter_context(simulator)
                name, admin = f"{provider} {copy}", f"admin-{provider}-{mine}"
                Admin(simulator, monkeypatch, admin)
                options = tuple(f"--option={n}={v}" for n, v in appconfig.options.items())
                is_keyless = provider == "appconfig"
                key, more = ("", options) if is_keyless else (simulator.sdk_key, ())
                found[name] = Server(name, simulator, key, admin, more)
        yield found


@pytest.fixture
def world(
    rig: Rig,
    servers: dict[str, Server],
    store: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """Give a deployment whose SSM can break off."""
    options: tuple[str, ...] = ()
    if store == "redis":
        url = request.getfixturevalue("redis_server").url()
        options = ("--store=redis", "--store-url-file", rig.file("redis", url))
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)  # SyncFunction's role, for AppConfig
    with Interrupter(lambda: rig.aws.port) as gate:
        rig.environ["AWS_ENDPOINT_URL_SSM"] = gate.url
        yield World(rig, gate, servers, options)


def begun(world: World, name: str) -> State:
    """Return a source on one server, complete and synced."""
    done = world.rig.run(*world.add(name))
    assert done.code == 0, done
    world.publishes()
    texts, log = world.texts(), world.taken()
    key = world.servers[name].key
    assert any(key in text for server, text in log if server == name)
    world.check(log)
    return State(texts, log)


def read_while_written(world: World, states: list[State]) -> None:
    """Run SyncFunction on parameters read from two different states."""
    for sources in states:
        for credentials in states:
            others = {kind: text for kind, text in credentials.texts.items() if kind != "sources"}
            world.syncs({**others, **_only(sources.texts, "sources")})
            world.check(world.taken(), "mixed", sources.shape, credentials.shape)


def continued(
    world: World, state: State, command: Sequence[str], stranger: str, *, partly: bool
) -> None:
    """Continue from a state: repeat the command, move to another server, remove the source."""
    done = world.future(state, command)
    if "remove" in command:
        assert (done.code in {0, 3}, world.texts()) == (True, {}), done
    else:
        assert done.code in {0, 2}, done  # 2: it was complete, but for the last response
        world.publishes()
    done = world.future(state, world.add(stranger, "--replace"))
    assert done.code == 0, (state.shape, done)
    world.publishes()
    for partial in world.partial(stranger) if partly else ():
        world.future(state, partial)
    remove = ("source", "remove", "prod", "--yes", "--forget")
    done = world.future(state, remove, world.add(stranger, "--no-check"))
    assert done.code == 0, (state.shape, done)
    world.publishes()


def _only(texts: Raw, kind: str) -> Raw:
    return {kind: texts[kind]} if kind in texts else {}


def steps(world: World, before: str, after: str) -> tuple[State, tuple[str, ...]]:
    """Return where a command starts, and the command: of ``add`` or ``remove``, if one is empty."""
    world.restore({})
    start = begun(world, before) if before else State({}, ())
    if not after:
        return start, ("source", "remove", "prod", "--yes", "--purge")
    return start, world.add(after, *(["--replace"] if before else []))


WHOLE = [
    ("", "launchdarkly a"),
    ("launchdarkly a", "split a"),
    ("split a", "unleash a"),
    ("unleash a", "unleash b"),
    ("unleash b", "appconfig a"),
    ("appconfig a", "appconfig b"),
    ("appconfig b", "launchdarkly a"),
    ("launchdarkly a", "launchdarkly b"),
    ("split a", "split b"),
    ("unleash a", ""),
    ("appconfig a", ""),
]
DOSE = [("launchdarkly a", "unleash a"), ("split a", "")]


@pytest.mark.parametrize(
    ("changes", "store"),
    [
        (DOSE, "dynamodb"),
        ([("unleash a", "unleash b")], "redis"),
        pytest.param(WHOLE, "dynamodb", marks=pytest.mark.campaign),
        pytest.param(WHOLE, "redis", marks=pytest.mark.campaign),
    ],
    ids=["dose", "dose", "all", "all"],
)
def test_interrupted_command_sends_no_key_to_another_server(
    world: World, changes: list[tuple[str, str]]
) -> None:
    """Interrupted before and after each call of SSM, and continued in every way."""
    states = 0
    for before, after in changes:
        start, command = steps(world, before, after)
        left = world.interrupted(start, command)
        states += len(left)
        read_while_written(world, left)
        strangers = ["unleash b", "launchdarkly b"]
        stranger = before or next(name for name in strangers if name != after)
        for state in left[1:-1]:
            continued(world, state, command, stranger, partly=changes is not DOSE)
    print(f"{states} states, {world.checks:,} continuations")


# -- exhaustively, without servers ----------------------------------------------------------------

ADDRESSES = ("https://a.example", "https://b.example")


def stored_credentials() -> Iterator[dict[str, str]]:
    """Yield credentials of each provider at each address; the key names both."""
    yield {}
    for name in providers.names():
        provider = providers.get(name)
        for address in ("", *ADDRESSES) if provider.default_base_url else ADDRESSES:
            key = {"key": f"{name} {address}"} if provider.needs_key else {}
            yield {"provider": name, **key, **({"base_url": address} if address else {})}


def stored() -> Iterator[SourceParameters]:
    """Yield every pair of source and credentials, matching or not."""
    for source in ("", *providers.names()):
        for credentials in stored_credentials():
            yield SourceParameters(
                sources=json.dumps({"provider": source}) if source else "",
                credentials=json.dumps(credentials) if credentials else "",
            )


def key_and_server(texts: SourceParameters) -> tuple[str, str, str] | None:
    """Return the key that would be sent, its provider and address; None if none is sent."""
    try:
        source = texts.source("/flagstore", "prod")
    except ConfigurationError:
        return None
    return source.credential.reveal(), source.provider, source.base_url


def belongs(key: str, provider: str, address: str) -> bool:
    """Return whether a stored key belongs to this provider and address."""
    own, _, own_address = key.partition(" ")
    usual = providers.get(provider).default_base_url
    return own == provider and (own_address or usual) == address


def test_key_is_used_with_its_own_provider_and_address() -> None:
    """For every combination of stored parameters and options."""
    used = refused = 0
    for before in stored():
        sent = key_and_server(before)
        assert not (sent and sent[0]) or belongs(*sent)
        for provider, address, key in product(
            (None, *providers.names()), ("", *ADDRESSES), ("", "new")
        ):
            given = AddOptions(
                provider=provider, base_url=address, key=key, options={}, webhook_options={}
            )
            try:
                sent = key_and_server(compose(complete(given, before, None), before))
            except CommandError:
                sent, is_refused = None, True
            else:
                is_refused = False
            stated = provider and providers.get(provider)
            if sent and sent[0] == "new":
                assert stated
                assert sent[1:] == (provider, address or stated.default_base_url), (before, given)
            elif sent and sent[0]:
                assert belongs(*sent), (before, given, sent)
            if stated and address and (key or not stated.needs_key):
                assert not is_refused, (before, given)
            used, refused = used + bool(sent), refused + is_refused
    print(f"{used:,} combinations of stored and given values were used, {refused:,} refused")
    assert used > 400
    assert refused > 400
