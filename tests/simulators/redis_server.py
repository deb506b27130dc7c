"""Real Redis servers, one of each kind a session: plain, with TLS and users, a cluster of three."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import pytest
import trustme
from redis import Redis

from local.processes import StartError, free_port, listening

from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
NODES = 3
SLOTS = 16_384
MISSING = "redis-server is not on the PATH; `make setup-e2e` installs it"
ADMIN = "admin"
ADMIN_PASSWORD = "tests-own"


@dataclass(frozen=True)
class Server:
    port: int
    admin: Redis
    ca_file: str = ""
    """PEM file of its authority, empty without TLS."""

    def url(self, user: str = "", password: str = "", host: str = HOST) -> str:
        login = f"{user}:{password}@" if user or password else ""
        return f"redis{'s' if self.ca_file else ''}://{login}{host}:{self.port}"

    def reset(self) -> Self:
        self.admin.flushall()
        self.admin.script_flush()
        for name, value in (("maxmemory", 0), ("maxmemory-policy", "noeviction")):
            self.admin.config_set(name, value)
        for name in self.admin.acl_users():
            if name not in {"default", ADMIN}:
                self.admin.acl_deluser(name)
        return self


@contextmanager
def running(*, ca: trustme.CA | None = None, cluster: bool = False) -> Iterator[Server]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip(MISSING)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="flagstore-redis-")))
        secured = _secured(ca, folder) if ca else {}
        for attempt in range(3):
            port = free_port()
            options = {"bind": HOST, "dir": folder, "save": "", "databases": 4}
            options |= {"port": 0, "tls-port": port, **secured} if ca else {"port": port}
            if cluster:
                options |= {"cluster-enabled": "yes", "cluster-port": free_port()}
                options |= {"cluster-node-timeout": 2000, "databases": 1}
            command = [program, *(str(p) for n, v in options.items() for p in (f"--{n}", v))]
            process = ServerProcess("Redis", command, folder / "log", stop_with=signal.SIGTERM)
            stack.callback(process.stop)
            try:
                process.start(lambda port=port: listening(port))  # type: ignore[misc] # a default binds
                break
            except StartError:  # somebody else took the port meanwhile
                if attempt:
                    raise
        ca_file = str(secured.get("tls-ca-cert-file", ""))
        login: dict[str, Any] = {}
        if ca:
            login = {"username": ADMIN, "password": ADMIN_PASSWORD}
            login |= {"ssl": True, "ssl_ca_certs": ca_file}
        admin = stack.enter_context(Redis(HOST, port, protocol=2, **login))
        yield Server(port, admin, ca_file)


def _secured(ca: trustme.CA, folder: Path) -> dict[str, Path | str]:
    """Write a certificate for 127.0.0.1, not ``localhost``, and a list of users."""
    authority, own, acl = (folder / name for name in ("ca.pem", "server.pem", "users.acl"))
    ca.cert_pem.write_to_path(authority)
    ca.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(own)
    acl.write_text(f"user default off\nuser {ADMIN} on >{ADMIN_PASSWORD} ~* &* +@all\n")
    return {
        "tls-cert-file": own,
        "tls-key-file": own,
        "tls-ca-cert-file": authority,
        "tls-auth-clients": "no",
        "aclfile": acl,
    }


def join(servers: list[Server]) -> None:
    first = servers[0]
    bus = first.admin.config_get("cluster-port")["cluster-port"]
    for number, server in enumerate(servers):
        begin, end = SLOTS * number // len(servers), SLOTS * (number + 1) // len(servers) - 1
        server.admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        server.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", begin, end)
        server.admin.execute_command("CLUSTER", "MEET", HOST, first.port, bus)
    deadline = time.monotonic() + 20
    while not all(_is_whole(server, len(servers)) for server in servers):
        if time.monotonic() > deadline:
            raise StartError("the cluster did not come together")
        time.sleep(0.05)


def _is_whole(server: Server, nodes: int) -> bool:
    state = server.admin.execute_command("CLUSTER INFO")
    return state["cluster_state"] == "ok" and state["cluster_known_nodes"] == str(nodes)


@pytest.fixture(scope="session")
def plain_server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def tls_server() -> Iterator[Server]:
    with running(ca=trustme.CA()) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_servers() -> Iterator[list[Server]]:
    with ExitStack() as stack:
        servers = [stack.enter_context(running(cluster=True)) for _ in range(NODES)]
        join(servers)
        yield servers


@pytest.fixture
def redis_server(plain_server: Server) -> Server:
    return plain_server.reset()


@pytest.fixture
def redis_tls(tls_server: Server) -> Server:
    return tls_server.reset()


@pytest.fixture
def redis_cluster(cluster_servers: list[Server]) -> list[Server]:
    return [server.reset() for server in cluster_servers]
