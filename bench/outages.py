"""What can go wrong between a reader and its store: a silent line, a dead name server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "store.flagstore.test"
DNS = ("127.0.0.9", 53)
READ = 65_536


class Line:
    """A port that leads to another one, until it falls silent: nothing is closed or refused."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self.connects = True
        """Whether connections that come from now on lead anywhere."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()

    def silence(self) -> None:
        """Carry nothing any more on the connections that there are."""
        self._silent |= set(self._open)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            if self.connects:
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open.append(server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(READ):
                if source not in self._silent:
                    target.sendall(data)
            if source not in self._silent:
                target.shutdown(socket.SHUT_WR)


class Names:
    """A namespace of mounts in which a name is known, until the name server drops all packets."""

    def __init__(self, folder: Path) -> None:
        self._hosts, self._resolv = folder / "hosts", folder / "resolv.conf"
        self._resolv.write_text(f"nameserver {DNS[0]}\n", encoding="ascii")
        self.known()

    def known(self) -> None:
        """Let the name be looked up, at once."""
        self._hosts.write_text(f"127.0.0.1 localhost {NAME}\n", encoding="ascii")

    def lost(self) -> None:
        """Leave it to the name server."""
        self._hosts.write_text("127.0.0.1 localhost\n", encoding="ascii")

    def prefix(self) -> list[str]:
        """Return what a command is run under to have these names."""
        mounts = (
            f"mount --bind {self._hosts} /etc/hosts; mount --bind {self._resolv} /etc/resolv.conf"
        )
        return ["unshare", "--mount", "sh", "-c", f'{mounts}; exec "$@"', "sh"]


@contextlib.contextmanager
def names(folder: str) -> Iterator[Names | None]:
    """Run a name server that drops packets; None where that takes rights that are not here."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        yield None
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(DNS)
        yield Names(Path(folder))
