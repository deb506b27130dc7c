"""What the engines make of flags and segments, without a context. Pure.

For writers, which compare a new flag set with the one that is published before readers get it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flagstore.evaluation.base import EXCEPTION, MALFORMED_FLAG, EngineConfig, MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.evaluation.base import Items

    Verdict = Callable[[str, str], str]
    """Of a section and a key."""

USABLE: Final = ""
UNSUPPORTED: Final = "unsupported"
"""It uses what cannot be evaluated here; that is no damage."""
DAMAGED: Final = "damaged"
"""The engine cannot use it, or it lacks what its provider always sends."""
REFUSED: Final = "refused"
"""The provider's SDK refuses a whole document that holds such an item."""


_BROKEN = {MALFORMED_FLAG, EXCEPTION}


def verdicts(provider: str, items: Items) -> Verdict:
    """Return what judges the items of one flag set; of an unknown provider all are usable."""
    judge = _JUDGES.get(provider)
    return judge(items) if judge else lambda _section, _key: USABLE


def _launchdarkly(items: Items) -> Verdict:
    from flagstore.evaluation.launchdarkly import LaunchDarklyEngine  # noqa: PLC0415 - one of four

    engine = LaunchDarklyEngine(items)

    def judge(section: str, key: str) -> str:
        try:
            engine.check(section, key)
        except MalformedError:
            return REFUSED
        item = items.item(section, key)
        # The SDK takes a flag of a key and a version, which gives everybody the default.
        whole = section != "flags" or (isinstance(item.get("on"), bool) and _has_choices(item))
        return USABLE if whole and _has_attributes(item) else DAMAGED

    return judge


def _has_attributes(item: dict[str, Any]) -> bool:
    """Return whether each clause of a flag or segment of LaunchDarkly names what it is about."""
    clauses = [clause for rule in item.get("rules") or [] for clause in rule.get("clauses") or []]
    return all(clause["attribute"] or clause["op"] == "segmentMatch" for clause in clauses)


def _has_choices(flag: dict[str, Any]) -> bool:
    """Return whether what a flag of LaunchDarkly asks for and may choose is there."""
    choosing: list[Any] = [flag.get("fallthrough") or {}]
    for field in ("rules", "targets", "contextTargets"):
        choosing += flag.get(field) or []
    chosen = [flag["offVariation"]] if flag.get("offVariation") is not None else []
    for item in choosing:
        shares = (item.get("rollout") or {}).get("variations")
        if shares and item.get("variation") is None:
            chosen += [share["variation"] for share in shares]
        else:
            chosen.append(item.get("variation"))
    possible = range(len(flag.get("variations") or ()))
    return all(variation in possible for variation in chosen)


def _unleash(items: Items) -> Verdict:
    from flagstore.evaluation import unleash_operators as operators  # noqa: PLC0415
    from flagstore.evaluation.unleash import UnleashEngine  # noqa: PLC0415

    engine = UnleashEngine(items, _settings())

    def judge(section: str, key: str) -> str:
        try:
            engine.check(section, key)
        except (
            operators.UnknownOperatorError,
            operators.UnsupportedError,
            operators.InjectionError,
        ):
            return UNSUPPORTED
        except operators.OffError:
            return DAMAGED
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return REFUSED
        return USABLE

    return judge


def _split(items: Items) -> Verdict:
    from flagstore.evaluation.split import SplitEngine  # noqa: PLC0415

    engine = SplitEngine(items)

    def judge(section: str, key: str) -> str:
        try:
            engine.check(section, key)
        except MalformedError:
            return DAMAGED
        return USABLE

    return judge


def _appconfig(items: Items) -> Verdict:
    from flagstore.evaluation.appconfig import FREEFORM, AppConfigEngine  # noqa: PLC0415

    engine = AppConfigEngine(items)
    freeform = items.meta.get("format") == FREEFORM

    def judge(section: str, key: str) -> str:
        if section != "flags" or freeform:
            return USABLE
        item: Any = items.item(section, key)
        whole = isinstance(item, dict) and bool(item.keys() & {"enabled", "_variants", "_variant"})
        broken = engine.evaluate(key, {}).error in _BROKEN
        return USABLE if whole and not broken else DAMAGED

    return judge


def _settings() -> EngineConfig:
    return EngineConfig(now=lambda: 0.0, random=lambda: 0.0)


_JUDGES: dict[str, Callable[[Items], Verdict]] = {
    "appconfig": _appconfig,
    "launchdarkly": _launchdarkly,
    "split": _split,
    "unleash": _unleash,
}
