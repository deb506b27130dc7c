"""A key is sent to its own server only, wherever `source add` or `remove` is interrupted.

Every server records its requests: from the command line, and from SyncFunction's code, which runs
on the parameters as they are after each step.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from local.stand_in import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from simulators import appconfig, launchdarkly, split, unleash
from simulators.memory_store import MemoryStores
from simulators.recorder import Interrupter
from simulators.ssm import Ssm
from storesync import providers, sync
from storesync.cli.parameters import KINDS, AddOptions, SourceParameters, complete, compose
from storesync.cli.screen import CommandError
from storesync.config import SyncSettings
from storesync.errors import ConfigurationError
from tests.cli.rig import Admin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.cli.rig import Done, Rig

type Raw = Mapping[str, str]
"""The parameters of the source: kind to text."""
type Log = tuple[tuple[str, str], ...]
"""The requests that servers received: name and text of each."""
type Command = tuple[str, ...]


class Server(NamedTuple):
    """One provider's server, with the secrets that only it may see."""

    provider: str
    simulator: Any
    key: str
    admin: str
    options: tuple[str, ...] = ()


class State(NamedTuple):
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
    webhook_secrets: set[str] = field(default_factory=set)
    checks: int = 0

    def parts(self, name: str) -> tuple[Command, Command, Command, Command]:
        """Return the options for a server's address, key, provider and registration."""
        server = self.servers[name]
        address = ("--base-url", server.simulator.url, "--allow-http")
        key = ("--key-file", self.rig.file(f"key {name}", server.key)) if server.key else ()
        register: Command = ()
        if server.provider in {"launchdarkly", "unleash"}:
            token = self.rig.file(f"admin {name}", server.admin)
            register = ("--register", "--admin-token-file", token, "--api-url", address[1])
        return address, key, ("--provider", server.provider, *server.options), register

    def add(self, name: str, *more: str) -> Command:
        options = [option for part in self.parts(name) for option in part]
        return ("source", "add", "prod", *options, *more)

    def partial(self, name: str) -> Iterator[Command]:
        """Yield commands with some options of a server; the stored values apply to the rest."""
        address, key, provider, register = self.parts(name)
        change = ("source", "add", "prod", "--replace")
        yield (*change, "--new-secret")
        yield (*change, "--no-check", *address)
        yield (*change, *address, *provider, *register)
        if key:
            yield (*change, *key)
            yield (*change, *key, *address)
        if self.servers[name].provider == "unleash":  # the others' usual addresses are real
            yield (*change, *key, *provider)
            yield ("source", "add", "prod", *key, *provider, "--no-check")
        if register:
            yield (*change, *register[:3])

    def texts(self) -> Raw:
        response = self.rig.aws.client("ssm").get_parameters_by_path(
            Path=self.rig.prefix, Recursive=True, WithDecryption=True
        )
        found = {each["Name"].split("/")[-2]: each["Value"] for each in response["Parameters"]}
        if "webhooks" in found:
            self.webhook_secrets |= set(json.loads(found["webhooks"])["secrets"])
        return found

    def restore(self, texts: Raw) -> None:
        names = [f"{self.rig.prefix}/{kind}/prod" for kind in KINDS]
        self.rig.aws.client("ssm").delete_parameters(Names=names)
        for kind, text in texts.items():
            self.rig.put_parameter(f"{kind}/prod", text)

    def taken(self) -> Log:
        """Return what the servers received since the last time."""
        found = []
        for name, server in self.servers.items():
            for request in server.simulator.requests:
                text = f"{request.method} {request.path} {dict(request.headers)} {request.body!r}"
                found.append((name, text))
            server.simulator.requests.clear()
        return tuple(found)

    def syncs(self, texts: Raw) -> str:
        """Run SyncFunction over some parameters; return the outcome, "" without a source."""
        ssm = Ssm()
        for kind in KINDS:
            there = {"prod": texts[kind]} if kind in texts else {}
            ssm.put(f"{self.rig.prefix}/{kind}", there)
        settings = SyncSettings(self.rig.prefix, "", "none", followup_s=0, snapshot_replicas=1)
        syncer = sync.Syncer(settings, ssm=ssm, sqs=Any, stores=MemoryStores())  # type: ignore[arg-type] # as much of SSM as it uses
        return next((outcome.to_json()["outcome"] for outcome in syncer.schedule(60.0)), "")

    def check(self, log: Log, *context: object) -> None:
        """Fail if a secret reached a server that is not its own."""
        for owner, server in self.servers.items():
            for secret in filter(None, (server.key, server.admin)):
                strangers = {name for name, text in log if secret in text} - {owner}
                assert not strangers, (owner, strangers, *context)
        for secret in self.webhook_secrets:
            holders = {name for name, text in log if secret in text}
            assert len(holders) <= 1, ("webhook", holders, *context)
        self.checks += 1

    def start(self, name: str) -> State:
        """Return a source on one server, complete and synced; nothing without a name."""
        self.restore({})
        if not name:
            return State({}, ())
        done = self.rig.run(*self.add(name))
        assert (done.code, self.syncs(self.texts())) == (0, "published"), done
        state = State(self.texts(), self.taken())
        self.check(state.log)
        key = self.servers[name].key
        assert any(key in text for server, text in state.log if server == name)
        return state

    def interrupted(self, start: State, command: Command) -> list[State]:
        """Interrupt a command after every call of SSM; return the states that it can leave."""
        found = {start.shape: start}
        for calls in range(100):
            self.restore(start.texts)
            self.gate.left = calls
            done = self.rig.run(*command)
            was_stopped, self.gate.left = not self.gate.left, None
            state = State(self.texts(), start.log + self.taken())
            self.check(state.log, "interrupted", command, calls)
            found.setdefault(state.shape, state)
            if not was_stopped:
                assert done.code == 0, done
                return list(found.values())
        raise AssertionError(command)

    def future(self, state: State, *commands: Command) -> tuple[Done, str]:
        """Run commands after an interruption, each with a sync; return the last results."""
        self.restore(state.texts)
        log = state.log
        for command in commands:
            done = self.rig.run(*command)
            outcome = self.syncs(self.texts())
            log += self.taken()
            self.check(log, state.shape, commands, done)
        return done, outcome

    def continued(self, state: State, command: Command, stranger: str, *, partly: bool) -> None:
        """Repeat the command, move to another server, or remove the source and add another."""
        done, outcome = self.future(state, command)
        if "remove" in command:
            assert (done.code in {0, 3}, self.texts()) == (True, {}), done
        else:  # 2: it was complete, but for the last response
            assert (done.code in {0, 2}, outcome) == (True, "published"), done
        done, outcome = self.future(state, self.add(stranger, "--replace"))
        assert (done.code, outcome) == (0, "published"), (state.shape, done)
        for some in self.partial(stranger) if partly else ():
            self.future(state, some)
        remove = ("source", "remove", "prod", "--yes", "--forget")
        done, outcome = self.future(state, remove, self.add(stranger, "--no-check"))
        assert (done.code, outcome) == (0, "published"), (state.shape, done)

    def read_while_written(self, states: Sequence[State]) -> None:
        """Run SyncFunction on a source and credentials of two different states."""
        for one, other in product(states, states):
            mixed = {kind: text for kind, text in other.texts.items() if kind != "sources"}
            if "sources" in one.texts:
                mixed["sources"] = one.texts["sources"]
            self.syncs(mixed)
            self.check(self.taken(), "mixed", one.shape, other.shape)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Server]]:
    found: dict[str, Server] = {}
    with ExitStack() as stack:
        for copy in "ab":
            mine = f"of-server-{copy}".rjust(30, "0")
            aws = appconfig.AppConfigSimulator(
                *appconfig.rich_flags(5), access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
            )
            simulators: tuple[Any, ...] = (  # in the order of names()
                aws,
                launchdarkly.LaunchDarklySimulator(
                    *launchdarkly.rich_flags(5), sdk_key=f"sdk-{mine}"
                ),
                split.SplitSimulator(*split.rich_flags(5), sdk_key=f"split-{mine}"),
                unleash.UnleashSimulator(
                    *unleash.rich_flags(5), token=f"*:production.unleash-{mine}"
                ),
            )
            for provider, simulator in zip(providers.names(), simulators, strict=True):
                stack.enter_context(simulator)
                admin = f"admin-{provider}-{mine}"
                Admin(simulator, monkeypatch, admin)
                key = "" if simulator is aws else simulator.sdk_key
                options = aws.options.items() if simulator is aws else ()
                more = tuple(f"--option={name}={value}" for name, value in options)
                found[f"{provider} {copy}"] = Server(provider, simulator, key, admin, more)
        yield found


@pytest.fixture
def world(rig: Rig, servers: dict[str, Server], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)  # SyncFunction's role, for AppConfig
    with Interrupter(lambda: rig.aws.port) as gate:
        rig.environ["AWS_ENDPOINT_URL_SSM"] = gate.url
        yield World(rig, gate, servers)


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
DOSE = [("launchdarkly a", "unleash a"), ("unleash a", "unleash b")]


@pytest.mark.parametrize(
    "changes", [DOSE, pytest.param(WHOLE, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_interrupted_command_sends_no_key_to_another_server(
    world: World, changes: list[tuple[str, str]]
) -> None:
    """Interrupted after each call of SSM, and continued in every way."""
    states = 0
    for before, after in changes:
        start = world.start(before)
        command: Command = ("source", "remove", "prod", "--yes", "--purge")
        if after:
            command = world.add(after, *(["--replace"] if before else []))
        left = world.interrupted(start, command)
        states += len(left)
        world.read_while_written(left)
        stranger = before or "unleash b"
        for state in left[1:-1]:
            world.continued(state, command, stranger, partly=changes is WHOLE)
    print(f"{states} states, {world.checks:,} continuations")


ADDRESSES = ("https://a.example", "https://b.example")


def stored() -> Iterator[SourceParameters]:
    """Yield every pair of source and credentials, matching or not; keys name their address."""
    credentials: list[dict[str, str]] = [{}]
    for name in providers.names():
        provider = providers.get(name)
        for address in ("", *ADDRESSES) if provider.default_base_url else ADDRESSES:
            key = {"key": f"{name} {address}"} if provider.needs_key else {}
            at = {"base_url": address} if address else {}
            credentials.append({"provider": name, **key, **at})
    for source, credential in product(("", *providers.names()), credentials):
        yield SourceParameters(
            name="prod",
            sources=json.dumps({"provider": source}) if source else "",
            credentials=json.dumps(credential) if credential else "",
        )


def sent(texts: SourceParameters) -> tuple[str, str, str]:
    """Return the key that would be sent, its provider and address; "" if none is sent."""
    try:
        source = texts.source("/flagstore")
    except ConfigurationError:
        return "", "", ""
    return source.credential.reveal(), source.provider, source.base_url


def belongs(key: str, provider: str, address: str) -> bool:
    """Return whether a stored key, if any, belongs to this provider and address."""
    own, _, own_address = key.partition(" ")
    usual = providers.get(provider).default_base_url if provider else ""
    return not key or (own == provider and (own_address or usual) == address)


def test_key_is_used_with_its_own_provider_and_address() -> None:
    """For every combination of stored parameters and options."""
    used = refused = 0
    for before in stored():
        assert belongs(*sent(before))
        for name, address, key in product(
            (None, *providers.names()), ("", *ADDRESSES), ("", "new")
        ):
            given = AddOptions(provider=name, base_url=address, key=key)
            stated = providers.get(name) if name else None
            try:
                after = sent(compose(complete(given, before, None), before))
            except CommandError:
                refused += 1
                # With everything stated, nothing is missing.
                assert not (stated and address and (key or not stated.needs_key)), (before, given)
                continue
            used += bool(after[1])
            if after[0] == "new":
                assert stated
                assert after[1:] == (name, address or stated.default_base_url), (before, given)
            else:
                assert belongs(*after), (before, given, after)
    print(f"{used:,} combinations of stored and given values were used, {refused:,} refused")
    assert min(used, refused) > 400
