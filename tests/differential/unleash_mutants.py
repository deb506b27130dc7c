"""Faults that people make when they write an evaluator of Unleash's flags."""

from __future__ import annotations

from differential.mutants import Mutant

_ENGINE = "unleash.py"
_FLAGS = "unleash_flags.py"
_STRATEGIES = "unleash_strategies.py"
_VARIANTS = "unleash_variants.py"
_OPERATORS = "unleash_operators.py"
_LITERALS = "unleash_literals.py"
_ADDRESSES = "unleash_addresses.py"
_REGEX = "unleash_regex.py"
_CHARACTERS = "unleash_regex_characters.py"
_PARSER = "unleash_regex_parser.py"
_MURMUR = "murmur3.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "a-rollout-one-percent-too-large",
        _STRATEGIES,
        "value is not None and murmur3_32(mixed(prefix + value.encode()), 0) % _ALL < percentage",
        "value is not None and murmur3_32(mixed(prefix + value.encode()), 0) % _ALL <= percentage",
    ),
    Mutant(
        "default-stickiness-by-the-session-only",
        _STRATEGIES,
        'value = context["userId"]',
        'value = context["sessionId"]',
    ),
    Mutant(
        "an-empty-user-is-none",
        _VARIANTS,
        'seed = context["userId"]\n            if seed is None:',
        'seed = context["userId"]\n            if not seed:',
    ),
    Mutant(
        "the-seed-of-rollouts-for-variants",
        _VARIANTS,
        "SEED: Final = 86_028_157",
        "SEED: Final = 0",
    ),
    Mutant("the-rest-of-a-hash", _MURMUR, "value ^= rest ^ length", "value ^= length"),
    Mutant("the-length-of-a-hash", _MURMUR, "value ^= rest ^ length", "value ^= rest"),
    Mutant("variants-one-too-far", _VARIANTS, "if bound >= target:", "if bound > target:"),
    Mutant(
        "overrides-after-weights",
        _VARIANTS,
        "    if not forced:\n",
        "    if choose:\n",
    ),
    Mutant(
        "a-strategys-variants-by-the-name-of-the-flag",
        _VARIANTS,
        'group = parameters.get("groupId", flag["name"])',
        'group = flag["name"]',
    ),
    Mutant(
        "variants-of-a-strategy-by-their-own-stickiness",
        _VARIANTS,
        '_pick(group, parameters.get("stickiness"), total, choice)',
        '_pick(group, variants[0].get("stickiness"), total, choice)',
    ),
    Mutant(
        "weights-without-a-sign",
        _VARIANTS,
        'total = (total + _weight(variant["weight"])) & _U32',
        'total = total + max(0, _weight(variant["weight"]))',
    ),
    Mutant(
        "a-missing-value-inverted-is-false",
        _OPERATORS,
        "return lambda context: not predicate(context)",
        "return lambda context: context[name] is not None and not predicate(context)",
    ),
    Mutant(
        "a-missing-value-in-not-in-is-false",
        _OPERATORS,
        "return lambda context: context[name] not in listed",
        "return lambda context: context[name] is not None and context[name] not in listed",
    ),
    Mutant(
        "no-values-are-no-fault",
        _OPERATORS,
        "    if not values:\n        raise OffError",
        "    if values is None:\n        raise OffError",
    ),
    Mutant(
        "a-version-with-a-v-is-inverted",
        _OPERATORS,
        "return lambda _: False  # not even inverted",
        "return lambda _: inverted",
    ),
    Mutant(
        "a-missing-segment-is-empty",
        _STRATEGIES,
        'raise operators.OffError(f"the segment {name[:32]} is not there")',
        "return []",
    ),
    Mutant("numbers-as-python-reads-them", _LITERALS, 'if "_" in text or', "if False and"),
    Mutant("numbers-with-a-space", _LITERALS, "or text.strip() != text", "or False"),
    Mutant(
        "numbers-nearly-equal",
        _LITERALS,
        "lambda given: abs(given - bound) < _EPSILON",
        "lambda given: abs(given - bound) < 1e-9",
    ),
    Mutant(
        "no-second-of-sixty", _LITERALS, "minute > 59 or second > 60", "minute > 59 or second > 59"
    ),
    Mutant(
        "fractions-to-microseconds",
        _LITERALS,
        'fraction[:9].ljust(9, "0")',
        'fraction[:6].ljust(9, "0")',
    ),
    Mutant(
        "an-offset-the-wrong-way",
        _LITERALS,
        'seconds += offset if zone[0] == "-" else -offset',
        'seconds += offset if zone[0] == "+" else -offset',
    ),
    Mutant(
        "versions-compared-as-text",
        _LITERALS,
        "keys.append((0, len(part), part))",
        "keys.append((1, 0, part))",
    ),
    Mutant(
        "a-release-before-its-beta",
        _LITERALS,
        "return (*numbers, (1,))",
        "return (*numbers, (-1,))",
    ),
    Mutant("versions-of-any-size", _LITERALS, "int(part) > _MAX_U64", "False"),
    Mutant("host-masks", _ADDRESSES, "return None if host & (host + 1) else", "return"),
    Mutant(
        "host-bits-are-refused",
        _ADDRESSES,
        "return bits & mask, mask, width",
        "return bits, mask, width",
    ),
    Mutant(
        "a-gap-of-nothing",
        _ADDRESSES,
        "if (missing < 1) if gap else missing:",
        "if (missing < 0) if gap else missing:",
    ),
    Mutant(
        "an-end-before-a-newline",
        _REGEX,
        '"z": lambda _, char: char == "",',
        '"z": lambda _, char: char in ("", "\\n"),',
    ),
    Mutant(
        "flags-outlive-their-group",
        _PARSER,
        "        self._flags = outside\n",
        "",
    ),
    Mutant("marks-are-no-words", _CHARACTERS, 'category[0] in "LM"', 'category[0] == "L"'),
    Mutant(
        "a-class-that-is-not-folded",
        _CHARACTERS,
        "return (lambda char: any(map(matches, case_variants(char)))) if ignore_case else matches",
        "return matches",
    ),
    Mutant(
        "texts-are-folded-and-not-lowered",
        _OPERATORS,
        "return value is not None and value.lower().startswith(lowered)",
        "return value is not None and value.casefold().startswith(lowered)",
    ),
    Mutant(
        "truths-as-json-has-them",
        _ENGINE,
        "return str.__str__(str(value))",
        "return str(value).lower() if isinstance(value, bool) else str(value)",
    ),
    Mutant(
        "properties-before-fields",
        _ENGINE,
        'if name != "properties":',
        'if name != "properties" and name not in (properties or {}):',
    ),
    Mutant(
        "an-empty-environment",
        _ENGINE,
        "settings.environment or _environment(items.meta)",
        "settings.environment",
    ),
    Mutant(
        "a-parent-that-is-not-there-is-off",
        _FLAGS,
        "return never, failed",
        "return lambda _: dependency.get('enabled') is False, failed",
    ),
    Mutant(
        "a-parent-by-its-own-name",
        _STRATEGIES,
        "return Flag(given, self.given,",
        "return Flag(given, given,",
    ),
    Mutant(
        "a-disabled-parent-has-no-variant",
        _FLAGS,
        "if variants and outcome.variant is not None and",
        "if enabled and variants and outcome.variant is not None and",
    ),
    Mutant(
        "parents-on-by-default-only",
        _FLAGS,
        "return (enabled and on) is wanted",
        "return enabled and on",
    ),
    Mutant(
        "names-that-are-not-trimmed",
        _STRATEGIES,
        "[name.strip(operators.WHITE_SPACE) for name in",
        "[name for name in",
    ),
    Mutant(
        "more-than-all-is-all",
        _STRATEGIES,
        'raise operators.OffError("more than 100 %")',
        "return _ALL",
    ),
)
