"""Node.js, for tests, `make bench` and `make run LANGUAGE=node`."""

from __future__ import annotations

import shutil

from local.stand_in import REPOSITORY

MODULES = REPOSITORY / "tests" / "sdks" / "node" / "node_modules"
"""The providers' SDKs: `make setup-node` installs them."""


def command() -> str:
    """Return Lambda's version, if it is beside the SDKs, or else this machine's; "" if neither."""
    ours = MODULES.glob("node-linux-*/bin/node")
    return next((str(path) for path in ours), shutil.which("node") or "")
