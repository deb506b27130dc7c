"""Node.js, for tests, `make bench` and `make run LANGUAGE=node`."""

from __future__ import annotations

import os
import shutil

from local.stand_in import REPOSITORY

MODULES = REPOSITORY / "tests" / "sdks" / "node" / "node_modules"
"""The providers' SDKs: `make setup-node` installs them."""


def command() -> str:
    """Return Lambda's version, if it is beside the SDKs, or else this machine's; "" if neither.

    Raises:
        FileNotFoundError: if `LAMBDA_NODE` asks for a version that is not beside the SDKs.
    """
    version = os.environ.get("LAMBDA_NODE", "")
    ours = [str(path) for path in MODULES.glob(f"node-{version or 24}-linux-*/bin/node")]
    if version and not ours:
        raise FileNotFoundError(f"Node.js {version}: run `make setup-node` (LAMBDA_NODE: 22 or 24)")
    return next(iter(ours), shutil.which("node") or "")
