"""Runs ``unleash_consumer.py``, an application of Unleash's own SDK, against ServeFunction."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from local.consumer_process import Consumer
from local.stand_in import REPOSITORY

if TYPE_CHECKING:
    from local.deploy import Deployed
    from local.providers import Store
    from local.stand_in import StandIn

NAME = "shop"
PYTHON = REPOSITORY / ".venv-sdks" / "bin" / "python"
SCRIPT = REPOSITORY / "local" / "unleash_consumer.py"


class ServedConsumer(Consumer):
    """A context manager that makes a client key; ``start`` starts the process."""

    command = (PYTHON, "-I", SCRIPT)
    freshness = "It polls every second here; ServeFunction looks for changes every 10 s."

    def __init__(self, stand_in: StandIn, deployed: Deployed, store: Store, source: str) -> None:
        super().__init__(stand_in, deployed, store, source)
        self.equipment = "UnleashClient, which knows only a URL and a key"
        self._url = deployed.serve_base_url
        self._key = secrets.token_urlsafe()
        self.by_hand = (
            "\nAsk ServeFunction, whose URL and key any Unleash SDK takes:\n"
            f"  curl --cacert {stand_in.ca_bundle} {self._url}/client/features \\\n"
            f"    -H 'Authorization: {self._key}'"
        )

    def _variables(self, folder: str) -> dict[str, str]:
        client = {"source": self._source, "kind": "server", "secrets": [self._key]}
        self._stand_in.client("ssm").put_parameter(
            Name=f"/flagstore/clients/{NAME}", Value=json.dumps(client), Type="SecureString"
        )
        return {
            "TMPDIR": folder,
            "UNLEASH_URL": self._url,
            "UNLEASH_TOKEN": self._key,
            "REQUESTS_CA_BUNDLE": str(self._stand_in.ca_bundle),
        }
