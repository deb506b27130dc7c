"""Runs a handler of ``examples/node``: a provider's SDK for Node.js on the layer, or on rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from local import nodejs
from local.consumer_process import Consumer
from local.stand_in import REPOSITORY

if TYPE_CHECKING:
    from local.deploy import Deployed
    from local.providers import Store
    from local.stand_in import StandIn

HANDLERS = REPOSITORY / "examples" / "node"
SCRIPT = REPOSITORY / "local" / "consumer.mjs"
READ = """
  NODE_PATH=.aws-sam/build/FlagstoreNodeLayer/nodejs/node_modules node -e 'require("flagstore")
    .client("prod").snapshot().then((flags) => console.log(flags.item("flags", "new-checkout")))'"""
"""How to read a flag with the layer, in the environment that `make run` shows before."""


def problem(provider: str, store: str) -> str:
    """Return why no handler of these can run; empty if one can."""
    if not _handler(provider, store).exists():
        return (
            f"LANGUAGE=node has no handler for PROVIDER={provider} STORE={store}: "
            "docs/other-languages.md lists what there is"
        )
    if not nodejs.command() or not nodejs.MODULES.exists():
        return "LANGUAGE=node needs Node.js and the providers' SDKs: run `make setup-node`"
    return ""


class NodeConsumer(Consumer):
    """A context manager that prepares a provider's handler; ``start`` starts the process."""

    freshness = "How long its SDK keeps what it has read: docs/other-languages.md."

    def __init__(
        self, stand_in: StandIn, deployed: Deployed, store: Store, source: str, provider: str
    ) -> None:
        super().__init__(stand_in, deployed, store, source)
        self._handler = _handler(provider, store.name)
        with_layer = "" if store.redis_url else ", the deployed layer"
        self.by_hand = "" if store.redis_url else READ
        self.equipment = f"only examples/node/{self._handler.name}{with_layer} and {store.access}"

    def _variables(self, folder: str) -> dict[str, str]:
        # A copy next to the packages, as in a deployed function.
        handler = shutil.copy(self._handler, Path(folder, self._handler.name))
        Path(folder, "node_modules").symlink_to(nodejs.MODULES)
        self.command = (nodejs.command(), SCRIPT, handler)
        ca_file = self._store.redis_ca_file or str(self._stand_in.ca_bundle)
        found = {**self._access(), "NODE_EXTRA_CA_CERTS": ca_file}
        if self._store.redis_url:
            return found
        self._unpack(self._deployed.node_layer_arn, folder)
        return {**found, "NODE_PATH": str(Path(folder, "nodejs", "node_modules"))}


def _handler(provider: str, store: str) -> Path:
    """Return the handler; on DynamoDB, that with the layer."""
    return HANDLERS / f"{provider}-{'layer' if store == 'dynamodb' else store}.mjs"
