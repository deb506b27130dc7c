"""The three SSM parameters of a source, as the command line reads and writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from storesync import providers
from storesync.sources import parse_source, parse_webhook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storesync.cli.context import Operator
    from storesync.model import Source, WebhookConfig

KINDS = {"webhooks": "SecureString", "credentials": "SecureString", "sources": "String"}
"""In the order of writing: a source is synced as soon as it is listed, so that comes last. The
webhook comes first: at a new address it gets a new secret, whatever becomes of this command."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What the parameters hold, as JSON texts; empty: there is none."""

    sources: str = ""
    credentials: str = ""
    webhooks: str = ""

    def values(self, kind: str) -> dict[str, Any]:
        """Return one parameter's object; empty if it is not one."""
        try:
            found = json.loads(getattr(self, kind) or "{}")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def text(self, kind: str, field: str) -> str:
        """Return one field; empty if it is missing or not a string."""
        value = self.values(kind).get(field)
        return value.strip() if isinstance(value, str) else ""

    def options(self, kind: str) -> dict[str, Any]:
        """Return the options; empty if they are not an object."""
        value = self.values(kind).get("options")
        return value if isinstance(value, dict) else {}

    def has_key_of(self, provider: str, base_url: str = "") -> bool:
        """Return whether the credentials are of this provider, and of this address if one is given.

        Credentials without their source, or beside a source of another provider, are leftovers of
        a command that was interrupted, and are nobody's.
        """
        named = {self.text(kind, "provider") for kind in ("sources", "credentials")}
        there = self.address()
        return bool(there) and named == {provider} and base_url.rstrip("/") in {"", there}

    def address(self) -> str:
        """Return the address that the credentials were stored with; empty if there is none."""
        name = self.text("credentials", "provider")
        usual = providers.get(name).default_base_url if name in providers.names() else ""
        return (self.text("credentials", "base_url") or usual).rstrip("/")

    def fitting(self, provider: str, base_url: str = "") -> Texts:
        """Return what stays when the source gets this provider, and this address if one is given.

        A key stays with the provider and the address that it was stored with. Where the flags go
        stays in any case: readers go on reading there.
        """
        if not self.sources:
            return Texts()
        same = self.text("sources", "provider") == provider
        owned = self.has_key_of(provider, base_url)
        store = to_text(_some(self.values("sources"), ("store", "rows")))
        store_url = to_text(_some(self.values("credentials"), ("store_url",)))
        return Texts(
            sources=self.sources if same else store,
            credentials=self.credentials if owned else store_url,
            webhooks=self.webhooks
            if same and self.text("webhooks", "provider") == provider
            else "",
        )

    def source(self, prefix: str, name: str) -> Source:
        """Build the source.

        Raises:
            ConfigurationError: says everything that is wrong.
        """
        where, secret_where = f"{prefix}/sources/{name}", f"{prefix}/credentials/{name}"
        return parse_source(name, where, self.sources, secret_where, self.credentials or None)

    def webhook(self, prefix: str, name: str) -> WebhookConfig:
        """Build the webhook config.

        Raises:
            ConfigurationError: says everything that is wrong.
        """
        return parse_webhook(name, f"{prefix}/webhooks/{name}", self.webhooks)


def to_text(values: Mapping[str, Any]) -> str:
    """Return a parameter's text; an empty one for an object without fields."""
    return json.dumps(values, ensure_ascii=False) if values else ""


def _some(values: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: values[field] for field in fields if field in values}


def read(operator: Operator, name: str) -> Texts:
    """Read what there is of a source."""
    return Texts(**{kind: _read(operator, kind, name) for kind in KINDS})


def _read(operator: Operator, kind: str, name: str) -> str:
    path = f"{operator.deployment.prefix}/{kind}/{name}"
    try:
        reply = operator.aws("ssm").get_parameter(Name=path, WithDecryption=True)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ParameterNotFound":
            return ""
        raise
    return str(reply["Parameter"]["Value"])


def write(operator: Operator, name: str, texts: Texts) -> None:
    """Write what differs, and delete what there is no text for any more."""
    before = read(operator, name)
    for kind, secrecy in KINDS.items():
        text = getattr(texts, kind)
        if not text and getattr(before, kind):
            remove(operator, name, kind)
        elif text != getattr(before, kind):
            path = f"{operator.deployment.prefix}/{kind}/{name}"
            operator.screen.progress(f"writing {path}")
            operator.aws("ssm").put_parameter(Name=path, Value=text, Type=secrecy, Overwrite=True)


def remove(operator: Operator, name: str, kind: str) -> None:
    """Delete one, if it exists."""
    path = f"{operator.deployment.prefix}/{kind}/{name}"
    try:
        operator.aws("ssm").delete_parameter(Name=path)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
