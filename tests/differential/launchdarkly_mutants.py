"""Faults of the kind that people make in an engine for LaunchDarkly."""

from __future__ import annotations

from differential.mutants import Mutant

_CLAUSES = "launchdarkly_clauses.py"
_CONTEXT = "launchdarkly_context.py"
_DATES = "launchdarkly_dates.py"
_FIELDS = "launchdarkly_fields.py"
_FLAGS = "launchdarkly_flags.py"
_OPERATORS = "launchdarkly_operators.py"
_SEGMENTS = "launchdarkly_segments.py"
_SEMVER = "launchdarkly_semver.py"

MUTANTS: tuple[Mutant, ...] = (
    # Operators.
    Mutant("less-is-at-most", _OPERATORS, "parsed < limit", "parsed <= limit"),
    Mutant("more-is-at-least", _OPERATORS, "parsed > limit", "parsed >= limit"),
    Mutant("at-most-is-less", _OPERATORS, "given <= limit", "given < limit"),
    Mutant("at-least-is-more", _OPERATORS, "given >= limit", "given > limit"),
    Mutant(
        "bool-is-a-number",
        _OPERATORS,
        "if kind is float or kind is int:",
        "if isinstance(value, (float, int)):",
    ),
    Mutant(
        "number-is-exact",
        _OPERATORS,
        "if kind is float or kind is int:\n        return float(value)",
        "if kind is float or kind is int:\n        return value",
    ),
    Mutant(
        "true-equals-1",
        _OPERATORS,
        "if is_bool is other_is_bool and value == other:",
        "if value == other:",
    ),
    Mutant("regex-is-anchored", _OPERATORS, "pattern.search(value)", "pattern.match(value)"),
    Mutant(
        "unknown-operator-stops",
        _OPERATORS,
        "        return _version(operator, values)\n    return _never",
        "        return _version(operator, values)\n    raise KeyError",
    ),
    Mutant("lower-case-z", _DATES, '("Z", "z")', '("Z",)'),
    Mutant("dates-are-seconds", _DATES, " * 1000.0", " // 1 * 1000.0"),
    Mutant("pre-release-is-later", _SEMVER, "return (*version, 1)", "return (*version, -1)"),
    Mutant("pre-release-as-text", _SEMVER, "(0, len(text), text)", "(0, 0, text)"),
    Mutant("leading-zero", _SEMVER, 'and (text == "0" or text[0] != "0")', ""),
    Mutant("padded-once", _SEMVER, "for _ in range(3)", "for _ in range(2)"),
    # Clauses and attributes.
    Mutant(
        "negated-matches-missing",
        _CLAUSES,
        "value = read(attributes, names)\n    return value is not None and _any(value, test)",
        "value = read(attributes, names)\n    return (value is not None and _any(value, test))",
    ),
    Mutant(
        "tuple-is-one-value", _CLAUSES, "isinstance(value, (list, tuple))", "type(value) is list"
    ),
    Mutant("kind-is-an-attribute", _CLAUSES, 'if name == "kind":', 'if name == "":'),
    Mutant("literal-slash-is-a-path", _FIELDS, "if not kind or not text", "if not text"),
    Mutant(
        "escapes-the-wrong-way-round",
        _FIELDS,
        'name.replace("~1", "/").replace("~0", "~") for',
        'name.replace("~0", "~").replace("~1", "/") for',
    ),
    Mutant("any-escape", _FIELDS, 'if not name or "~" in rest:', "if not name:"),
    Mutant("no-anonymous", _CONTEXT, 'attributes.setdefault("anon', 'attributes.get("anon'),
    Mutant("kind-of-a-part-is-its-name", _CONTEXT, 'part.get("kind", name)', "name"),
    # Flags.
    Mutant("off-variation-0-is-none", _FLAGS, "if variation is None:", "if not variation:"),
    Mutant("negative-variation", _FLAGS, "not 0 <= variation < len", "not -2 < variation < len"),
    Mutant(
        "prerequisite-off-counts", _FLAGS, "if flag is None or not flag.on or", "if flag is None or"
    ),
    Mutant("longer-cycles", _FLAGS, "if other in path:", "if other == key:"),
    Mutant(
        "targets-before-prerequisites",
        _FLAGS,
        """    if targets:
        evaluate = bind(_on_targets, (targets, evaluate))
    if prerequisites:
        evaluate = bind(_on_prerequisites, (key, prerequisites, look_up, evaluate))
""",
        """    if prerequisites:
        evaluate = bind(_on_prerequisites, (key, prerequisites, look_up, evaluate))
    if targets:
        evaluate = bind(_on_targets, (targets, evaluate))
""",
    ),
    Mutant(
        "last-target-wins",
        _FLAGS,
        "given |= targets.pop()[1]",
        "given = targets.pop()[1] | given",
    ),
    Mutant("users-of-context-targets", _FLAGS, "if turns and kind == USER:", "if kind is None:"),
    # Rollouts.
    Mutant("bucket-at-the-bound", _FLAGS, "if place < bound:", "if place <= bound:"),
    Mutant("weights-are-not-added", _FLAGS, "bound += required", "bound = required"),
    Mutant("past-the-end-is-first", _FLAGS, "last = steps[-1][1]", "last = steps[0][1]"),
    Mutant("seed-0-is-none", _FLAGS, "if seed is None", "if not seed"),
    Mutant("experiment-by-attribute", _FLAGS, "if by_key or not by", "if not by"),
    Mutant("untracked-counts", _FLAGS, 'optional(share, "untracked", bool) is not True', "True"),
    Mutant("counts-without-kind", _FLAGS, "if place < 0:", "if place < -1:"),
    Mutant("hash-of-a-float", _FLAGS, "isinstance(value, (str, int))", "value"),
    Mutant("hash-of-a-bool", _FLAGS, "isinstance(value, bool) or not", "not"),
    Mutant("hash-without-the-dot", _FLAGS, "str) or ''}.\"", "str) or ''}\""),
    # Segments.
    Mutant(
        "excluded-first",
        _SEGMENTS,
        """        if included and _listed(context, included):
            return True
        if excluded and _listed(context, excluded):
            return False
""",
        """        if excluded and _listed(context, excluded):
            return False
        if included and _listed(context, included):
            return True
""",
    ),
    Mutant("segment-weight-0", _SEGMENTS, "bucket(context) < share", "bucket(context) <= share"),
    Mutant(
        "segment-without-kind",
        _SEGMENTS,
        "bucket(context) < share",
        "0 <= bucket(context) < share",
    ),
    Mutant(
        "rule-without-clauses",
        _SEGMENTS,
        "matches is None or matches(",
        "matches is not None and matches(",
    ),
)
