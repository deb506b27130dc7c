"""The three SSM parameters of a source, as the command line reads and writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from storesync.sources import parse_hook, parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storesync.cli.operating import Operator
    from storesync.model import Hook, Source

KINDS = {"credentials": "SecureString", "webhooks": "SecureString", "sources": "String"}
"""In the order of writing: a source is synced as soon as it is listed, so that comes last."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What the parameters hold, as JSON texts; empty: there is none."""

    sources: str = ""
    credentials: str = ""
    webhooks: str = ""

    def values(self, kind: str) -> dict[str, Any]:
        """Return one parameter's object; empty where it is none."""
        try:
            found = json.loads(getattr(self, kind) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def fitting(self, provider: str) -> Texts:
        """Return what stays when the source gets this provider.

        Of another one nothing fits but where the flags go: whoever reads there goes on reading.
        """
        if self.values("sources").get("provider") in {None, provider}:
            return self
        return Texts(
            sources=to_text(_some(self.values("sources"), ("store", "rows"))),
            credentials=to_text(_some(self.values("credentials"), ("store_url",))),
        )

    def source(self, prefix: str, name: str) -> Source:
        """Build the source.

        Raises:
            ConfigurationError: says everything that is wrong.
        """
        where, secret_where = f"{prefix}/sources/{name}", f"{prefix}/credentials/{name}"
        return parse_source(name, where, self.sources, secret_where, self.credentials or None)

    def hook(self, prefix: str, name: str) -> Hook:
        """Build the hook.

        Raises:
            ConfigurationError: says everything that is wrong.
        """
        return parse_hook(name, f"{prefix}/webhooks/{name}", self.webhooks)


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
        answer = operator.aws("ssm").get_parameter(Name=path, WithDecryption=True)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ParameterNotFound":
            return ""
        raise
    return str(answer["Parameter"]["Value"])


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


def remove(operator: Operator, name: str, kind: str) -> bool:
    """Delete one; say whether there was one."""
    path = f"{operator.deployment.prefix}/{kind}/{name}"
    try:
        operator.aws("ssm").delete_parameter(Name=path)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ParameterNotFound":
            return False
        raise
    return True
