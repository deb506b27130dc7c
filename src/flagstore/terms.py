"""OpenFeature's terms for evaluations, as strings: reasons, error codes, metadata, contexts.

For the adapter and for OFREP; needs no package of OpenFeature's. No I/O.
"""

# Without `from __future__ import annotations`: its import would take longer than the annotations.

import json
from typing import TYPE_CHECKING, Any

from flagstore.evaluation import base

if TYPE_CHECKING:
    from flagstore.flags import Detail

REASONS = {
    base.OFF: "DISABLED",
    base.FALLTHROUGH: "DEFAULT",
    base.NO_MATCH: "DEFAULT",
    base.PREREQUISITE_FAILED: "DEFAULT",
    base.TARGET_MATCH: "TARGETING_MATCH",
    base.RULE_MATCH: "TARGETING_MATCH",
    base.NOT_IN_ROLLOUT: "SPLIT",
    base.OVERRIDE: "STATIC",
    base.ERROR: "ERROR",
}
"""flagstore's reason → OpenFeature's; others pass through unchanged. See also :func:`reason`."""
ERRORS = {
    base.FLAG_NOT_FOUND: ("FLAG_NOT_FOUND", "there is no such flag"),
    base.MALFORMED_FLAG: ("PARSE_ERROR", "the flag is malformed"),
    base.WRONG_TYPE: ("TYPE_MISMATCH", "the flag's value is of another type"),
    base.NO_VALUE: ("TYPE_MISMATCH", "the flag is on but has no value"),
    base.KEY_MISSING: ("TARGETING_KEY_MISSING", "the context has no targeting key"),
    base.CONTEXT_INVALID: ("INVALID_CONTEXT", "the context is invalid for these flags"),
    base.NOT_LOADED: ("PROVIDER_NOT_READY", "no flags have been loaded yet"),
    base.TOO_OLD: ("GENERAL", "the flags are older than max_age_s"),
    base.UNSUPPORTED: ("GENERAL", "the flag uses a feature that cannot be evaluated here"),
    base.SEGMENT_UNAVAILABLE: ("GENERAL", "a large segment cannot be read now"),
    base.EXCEPTION: ("GENERAL", "unexpected error in flagstore, see its log"),
}
"""flagstore's error → OpenFeature's code and a message. Any other error is GENERAL."""


def reason(detail: "Detail") -> str:
    """Return the reason of an evaluation, regardless of whether the flags are stale."""
    return "SPLIT" if detail.in_experiment else REASONS.get(detail.reason, detail.reason)


def error(word: str) -> tuple[str, str]:
    """Return the code of an error, and a message."""
    return ERRORS.get(word, ("GENERAL", word))


def metadata(detail: "Detail") -> dict[str, Any]:
    """Return the metadata of an evaluation: scalars that depend on flag and context alone."""
    config = detail.config
    found = {
        "reason": detail.reason,
        "rule": detail.rule or None,
        "rule_index": detail.rule_index,
        "version": detail.version,
        "config": config if config is None or isinstance(config, str) else json.dumps(config),
        "in_experiment": detail.in_experiment,
        "deployment": detail.deployment or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def keyed(context: dict[str, Any], targeting_key: str | None) -> dict[str, Any]:
    """Put the targeting key into a context, which is changed, as ``key``.

    In LaunchDarkly's multi-kind context (``kind`` is ``multi``), each attribute is a kind and has
    its own targeting key.
    """
    if context.get("kind") == "multi":
        for part in context.values():
            if isinstance(part, dict) and part.get("targetingKey") is not None:
                part["key"] = part.pop("targetingKey")
    elif targeting_key is not None:
        context["key"] = targeting_key
    return context
