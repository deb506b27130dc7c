"""Flag sets of every provider behind ServeFunction, and what the provider's own SDK says of them.

AppConfig has no SDK that evaluates: for its flags, flagstore's own engine says it.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from sdks import processes, sets
from simulators import appconfig_flags
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.serving import KEYS, Serving
from storesync import providers
from storesync.http import HttpClient
from storesync.model import Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDERS = ("launchdarkly", "split", "unleash", "appconfig")
ALL = {**KEYS, "page": {**KEYS["page"], "flags": ["*"], "origins": ["*"]}}
WORDS = {"on": True, "true": True, "off": False, "false": False}
NO_VALUE = "no value"
"""Stands for an error, or for a flag without a value: clients return their default."""

type Results = list[dict[str, Any]]


class Official(NamedTuple):
    """A flag set behind ServeFunction."""

    serving: Serving
    flags: dict[str, Any]
    asked: list[dict[str, Any]]
    """Each context as OpenFeature has it, and name of a flag → the type that is asked for."""
    expected: Results
    """Context by context, the value of each flag, or ``NO_VALUE``."""
    own: list[dict[str, Any]]
    """Contexts as the provider has them."""
    said: Results
    """What the provider's SDK for Python said in its own form."""


def official(provider: str, count: int) -> Official:
    """Publish a provider's set, and evaluate it by the provider's SDK for so many contexts."""
    if provider == "appconfig":
        return _appconfig(count)
    made = {"launchdarkly": sets.launchdarkly, "split": sets.split, "unleash": sets.unleash}
    parts: Any = made[provider]()
    flags = {name: flag for name, flag in parts[0].items() if not flag.get("deleted")}
    if provider == "launchdarkly":
        for number, flag in enumerate(flags.values()):
            shown = {"usingEnvironmentId": number % 3 > 0, "usingMobileKey": False}
            flag["clientSideAvailability"] = shown
    own = sets.contexts(provider, count)
    with sets.SIMULATORS[provider](*parts) as server:
        serving = Serving(keys=ALL, provider=provider)
        synced(serving, provider, server)
        task: dict[str, Any] = {"flags": [*flags], "contexts": own}
        if provider == "split":
            task |= {"url": f"{server.url}/api", "key": server.sdk_key}
        else:
            document = server.document()
            task["document"] = document.decode() if provider == "unleash" else json.loads(document)
        lines = processes.python(provider, **task)
    said = [json.loads(line) for line in lines[:count]]
    expected = [
        {name: VALUES[provider](found, flags[name]) for name, found in each["flags"].items()}
        for each in said
    ]
    asked = [
        {
            "context": CONTEXTS[provider](context),
            "flags": {name: _type(values[name], flag) for name, flag in flags.items()},
        }
        for context, values in zip(own, expected, strict=True)
    ]
    return Official(serving, flags, asked, expected, own, said)


def synced(serving: Serving, provider: str, server: Any) -> None:
    """Publish what a simulated provider has, as SyncFunction does."""
    source = Source("prod", provider, server.url, Secret(server.sdk_key), allow_http=True)
    deadline = Deadline(FakeClock(), random.Random(1), 60.0)
    store = MemoryStore(serving.rig.records)
    sync = Sync(source, providers.get(provider), store, http=HttpClient(), deadline=deadline)
    assert sync.run([SyncRequest("prod", trigger="schedule")]).outcome == "published"


def shown_to_browsers(flag: Mapping[str, Any]) -> bool:
    availability = flag.get("clientSideAvailability", {"usingEnvironmentId": True})
    return bool(availability["usingEnvironmentId"])


def _appconfig(count: int) -> Official:
    flags = appconfig_flags.rich_flags(40)[0]
    flags |= {"plain-on": {"enabled": True}, "plain-off": {"enabled": False}}
    serving = Serving(keys=ALL, provider="appconfig")
    serving.rig.publish(flags)
    contexts = [
        {"targetingKey": each["key"], "email": f"{each['key']}@team{n % 40}.example"}
        for n, each in enumerate(sets.contexts("split", count))
    ]
    expected = []
    for context in contexts:
        details = serving.rig.client.for_context(context)
        expected.append({name: _appconfig_value(details.detail(name)) for name in flags})
    asked = [
        {"context": context, "flags": {name: _type(values[name], {}) for name in flags}}
        for context, values in zip(contexts, expected, strict=True)
    ]
    return Official(serving, flags, asked, expected, contexts, expected)


def _appconfig_value(detail: Any) -> Any:
    if detail.error:
        return NO_VALUE
    if "plain" in detail.key:
        return detail.enabled
    return {**(detail.value or {}), "enabled": detail.enabled}


# -- values and contexts by provider, in the simplest way -----------------------------------


def _type(value: Any, flag: Mapping[str, Any]) -> str:
    """Return the type of a value; LaunchDarkly's numbers have that of all variations."""
    if isinstance(value, int) and float in map(type, flag.get("variations", ())):
        value = value if isinstance(value, bool) else float(value)
    names = {bool: "boolean", str: "string", int: "integer", float: "float"}
    return names.get(type(value), "object")


def _launchdarkly_value(found: Any, _flag: Any) -> Any:
    value, variation, _ = found
    return NO_VALUE if variation is None or value is None else value


def _launchdarkly_context(given: Mapping[str, Any]) -> dict[str, Any]:
    if given["kind"] == "multi":
        return dict(given)
    attributes = {name: value for name, value in given.items() if name != "key"}
    return {"targetingKey": given["key"], **attributes}


def _is_boolean(flag: Any) -> bool:
    parts = [part for one in flag["conditions"] for part in one["partitions"]]
    words = {flag["defaultTreatment"], *(part["treatment"] for part in parts)}
    return {word.lower() for word in words} <= set(WORDS)


def _split_value(found: Any, flag: Any) -> Any:
    treatment, _ = found
    if treatment == "control":
        return NO_VALUE
    return WORDS[treatment.lower()] if _is_boolean(flag) else treatment


def _split_context(given: Mapping[str, Any]) -> dict[str, Any]:
    bucketing = {"bucketingKey": given["bucketing"]} if given["bucketing"] else {}
    return {"targetingKey": given["key"], **bucketing, **given["attributes"]}


def _payloads(flag: Any) -> list[Any]:
    holders = [flag, *flag["strategies"]]
    variants = [one for holder in holders for one in holder.get("variants") or ()]
    return [one["payload"] for one in variants if one.get("payload")]


def _unleash_value(found: Any, flag: Any) -> Any:
    enabled, variant = found
    if not _payloads(flag):
        return enabled
    payload = variant.get("payload")
    if not (enabled and payload):
        return NO_VALUE
    is_json = payload["type"] in {"json", "number"}
    return json.loads(payload["value"]) if is_json else payload["value"]


def _unleash_context(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"targetingKey": given["userId"], **given}


VALUES = {"launchdarkly": _launchdarkly_value, "split": _split_value, "unleash": _unleash_value}
CONTEXTS = {
    "launchdarkly": _launchdarkly_context,
    "split": _split_context,
    "unleash": _unleash_context,
}
