"""What `sam local` needs where there is no Docker: podman, and an image made from this machine.

AWS' image for Lambda is in a registry that a test cannot count on. `sam local` itself brings the
Runtime Interface Emulator; beneath it, this image has the same interpreter and runtime client as
``.venv-lambda``, what they are linked to, and the few commands that `sam local` calls while it adds
its layer. It runs for root only, and leaves podman's bridge (``cni-podman0``) behind.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import tarfile
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from local import processes
from local.lambda_rie import DEFAULT_PYTHON

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ARCHITECTURE = "arm64" if platform.machine() in {"aarch64", "arm64"} else "x86_64"

REPOSITORY = Path(__file__).parents[2]
COMMANDS = ("/bin/sh", "/bin/mv", "/bin/chmod")
FOLDERS = ("dev", "etc", "opt", "proc", "sys", "tmp", "var/task")
LEFT_OUT = {"__pycache__", "ensurepip", "idlelib", "pip", "site-packages", "test", "tkinter"}
LINKED = re.compile(r"(/\S+) \(0x")
RUNTIME = Path("/var/runtime")
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH={runtime}
exec {python} -m awslambdaric "$_HANDLER"
"""

SETTINGS = """
[containers]
default_ulimits = ["nofile={soft}:{hard}", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{home}/graph"
runroot = "{home}/run"
"""
WITHIN_S = 120.0
START_WITHIN_S = 20.0
STOP_GRACE_S = 5.0


class NoEngineError(RuntimeError):
    """Containers cannot run here; the text says what is missing."""


class Engine:
    """A context manager: podman's API on a socket, with images in a folder of its own.

    Args:
        home: an empty folder, with a short path, for the socket.

    Raises:
        NoEngineError: on entering, if something is missing or no container runs.

    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._running = ExitStack()

    def __enter__(self) -> Self:
        missing = [name for name in ("podman", "runc", "iptables") if shutil.which(name) is None]
        if missing or os.geteuid() != 0:
            raise NoEngineError(f"containers need root, and of the commands {missing or 'none'}")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        settings = SETTINGS.format(soft=soft, hard=hard)
        (self._home / "containers.conf").write_text(settings, encoding="utf-8")
        (self._home / "storage.conf").write_text(STORAGE.format(home=self._home), encoding="utf-8")
        (self._home / "tmp").mkdir()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def environment(self) -> dict[str, str]:
        """What leads podman to this folder, and `sam` to podman."""
        return {
            "CONTAINERS_CONF": str(self._home / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._home / "storage.conf"),
            "DOCKER_HOST": f"unix://{self._socket}",
            "TMPDIR": str(self._home / "tmp"),
        }

    def gateway(self) -> str:
        """Return the address of this machine that containers reach, and nobody outside of it."""
        told = json.loads(self._podman("network", "inspect", "podman"))
        return str(told[0]["subnets"][0]["gateway"])

    @property
    def _socket(self) -> Path:
        return self._home / "podman.sock"

    def _start(self) -> None:
        image = self._home / "image.tar"
        write_image(image)
        self._podman("import", "--change", "ENV PATH=/bin", str(image), image_name())
        image.unlink()
        # Says whether a container runs at all; the first one also makes the bridge.
        self._podman("run", "--rm", image_name(), "/bin/sh", "-c", "exit 0")
        log = self._running.enter_context((self._home / "service.log").open("wb"))
        service = self._running.enter_context(
            processes.running(
                ["podman", "system", "service", "--time=0", f"unix://{self._socket}"],
                grace_s=STOP_GRACE_S,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        )
        processes.wait_until(
            self._socket.exists,
            process=service,
            within_s=START_WITHIN_S,
            log=(self._home / "service.log").read_text,
            name="podman",
        )

    def _end(self) -> None:
        with suppress(NoEngineError):
            self._podman("rm", "--all", "--force", "--time", "0")
        self._running.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def _podman(self, *arguments: str) -> str:
        done = subprocess.run(
            ["podman", *arguments],  # noqa: S607 - wherever the system has it
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        if done.returncode:
            raise NoEngineError(f"podman {arguments[0]}: {done.stderr.strip()[-300:]}")
        return done.stdout


def write_image(archive: Path) -> None:
    """Write the image's files as one archive: some 150 MB, in a few seconds."""
    python = DEFAULT_PYTHON.resolve()
    library = python.parents[1] / "lib" / "python3.13"
    packages = DEFAULT_PYTHON.parents[1] / "lib" / "python3.13" / "site-packages"
    commands = [Path(name) for name in COMMANDS]
    native = [*library.rglob("*.so"), *packages.rglob("*.so")]
    files = {each: each for each in (python, *commands, *_linked((python, *commands, *native)))}
    files |= {each: each for each in _files(library)}
    files |= {RUNTIME / each.relative_to(packages): each for each in _files(packages)}
    with tarfile.open(archive, "w") as image:
        for name in FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            image.addfile(folder)
        for inside, path in files.items():
            image.add(path.resolve(), str(inside).lstrip("/"), recursive=False)
        script = BOOTSTRAP.format(runtime=RUNTIME, python=python).encode()
        entry = tarfile.TarInfo(str(RUNTIME / "bootstrap").lstrip("/"))
        entry.size, entry.mode = len(script), 0o755
        image.addfile(entry, io.BytesIO(script))


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not LEFT_OUT & set(path.relative_to(folder).parts)]


def _linked(programs: Iterable[Path]) -> set[Path]:
    """Return the libraries that programs are linked to, under the names that they look for."""
    found: set[Path] = set()
    for program in programs:
        told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout  # noqa: S607 - the system's
        found |= {Path(name) for name in LINKED.findall(told)}
    return found


@cache
def image_name() -> str:
    """Return the name under which `sam local` looks for AWS' image, before it asks a registry."""
    code = (
        "from samcli.local.docker.lambda_image import LambdaImage\n"
        "print(LambdaImage._INVOKE_REPO_PREFIX)"
    )
    python = REPOSITORY / ".venv-sam" / "bin" / "python"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return f"{told.strip()}/python:3.13-{ARCHITECTURE}"


def invoke(
    function: str, event: Path, *, home: Path, environment: Mapping[str, str]
) -> tuple[Any, str]:
    """Run `sam local invoke` on what was built in *home*; return the response and the log.

    Raises:
        AssertionError: sam failed; with what it said.

    """
    done = subprocess.run(
        [
            *("sam", "local", "invoke", function, "--event", event),
            *("--skip-pull-image", "--env-vars", home / "env.json"),
        ],
        cwd=home,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr
