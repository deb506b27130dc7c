"""Faults planted into the engine for Split, of the kind that people make."""

from __future__ import annotations

from differential.mutants import Mutant

CONTEXT, COMPILER, MATCHERS = "split_context.py", "split_compiler.py", "split_matchers.py"
ENGINE, RULE_BASED = "split.py", "split_rule_based.py"
SEMVER, MURMUR = "split_semver.py", "murmur3.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant("murmur-forgets-the-length", MURMUR, "value ^= rest ^ length", "value ^= rest"),
    Mutant("murmur-drops-the-rest", MURMUR, "value ^= rest ^ length", "value ^= length"),
    Mutant("murmur-shifts-wrongly", MURMUR, "value ^ value >> 13", "value ^ value >> 15"),
    Mutant(
        "bucket-from-zero",
        CONTEXT,
        "murmur3_32(prepared, seed) % 100 + 1",
        "murmur3_32(prepared, seed) % 100",
    ),
    Mutant(
        "legacy-without-a-sign", CONTEXT, "0x1_0000_0000 - value if value >> 31 else value", "value"
    ),
    Mutant(
        "legacy-by-bytes",
        CONTEXT,
        'context.bucketing_key.encode("utf-16-le", "surrogatepass")',
        'b"".join(bytes((x, 0)) for x in context.bucketing_key.encode(errors="replace"))',
    ),
    Mutant(
        "no-algorithm-is-murmur",
        CONTEXT,
        "self.murmur = algorithm == 2",
        "self.murmur = algorithm != 1",
    ),
    Mutant(
        "matching-key-is-hashed",
        CONTEXT,
        "self.encoded = bucketing_key.encode()",
        "self.encoded = key.encode()",
    ),
    Mutant(
        "key-is-trimmed",
        CONTEXT,
        'key = _checked(key, "key")',
        'key = _checked(key, "key").strip()',
    ),
    Mutant("key-one-too-long", CONTEXT, "len(text) > MAX_KEY", "len(text) > MAX_KEY + 1"),
    Mutant(
        "bool-as-key",
        CONTEXT,
        "isinstance(value, bool) or not isinstance(value, Number)",
        "not isinstance(value, Number)",
    ),
    Mutant(
        "allocation-off-by-one",
        COMPILER,
        "bucket(context, seed)) > allocation",
        "bucket(context, seed)) >= allocation",
    ),
    Mutant(
        "allocation-by-the-flags-seed",
        COMPILER,
        'Hash(outcomes.raw.get("trafficAllocationSeed"), outcomes.raw.get("algo"))',
        'Hash(outcomes.raw["seed"], outcomes.raw.get("algo"))',
    ),
    Mutant(
        "allocation-before-whitelists",
        COMPILER,
        "if condition.rollout and not gated:",
        "if not gated:",
    ),
    Mutant(
        "no-condition-type-is-rollout",
        COMPILER,
        'raw.get("conditionType", "WHITELIST")',
        'raw.get("conditionType", "ROLLOUT")',
    ),
    Mutant(
        "uncovered-bucket-is-the-default",
        COMPILER,
        "none = self.outcome(CONTROL, reason, condition.label, index)",
        "none = self.default(FALLTHROUGH, DEFAULT_RULE)",
    ),
    Mutant(
        "partition-boundary",
        COMPILER,
        "min(int(covered), 100) + 1 - len(table)",
        "min(int(covered), 100) - len(table)",
    ),
    Mutant(
        "any-matcher-is-enough",
        COMPILER,
        "one(context) and other(context)",
        "one(context) or other(context)",
    ),
    Mutant(
        "unmet-prerequisites-end-it",
        COMPILER,
        "return decide(context) if goes_on else unmet",
        "return unmet",
    ),
    Mutant(
        "any-prerequisite-is-enough",
        COMPILER,
        "if treatment(context) not in wanted:",
        "if treatment(context) in wanted:\n                return decide(context)\n"
        "            else:",
    ),
    Mutant(
        "kill-comes-second",
        COMPILER,
        'if raw["killed"]:',
        'if raw["killed"] and not prerequisites:',
    ),
    Mutant(
        "unsupported-matcher-is-skipped",
        COMPILER,
        "        links.forget()\n        return _UNSUPPORTED",
        "        return []",
    ),
    Mutant(
        "missing-flag-is-no-treatment",
        ENGINE,
        "if node is None:\n                return CONTROL",
        "if node is None:\n                return None",
    ),
    Mutant(
        "missing-rule-based-segment-is-empty",
        ENGINE,
        "within(context: Context) -> bool:\n            node = find()\n",
        "within(context: Context) -> bool:\n"
        "            if self._engine.nodes[(_RULE_BASED, name)] is None:\n"
        "                return False\n            node = find()\n",
    ),
    Mutant(
        "excluded-keys-are-forgotten",
        ENGINE,
        "if context.key in node.keys or node.shuts_out(context):",
        "if node.shuts_out(context):",
    ),
    Mutant(
        "search-goes-on-after-excluded-keys",
        RULE_BASED,
        "            if context.key in other.keys:\n                return False\n",
        "            if context.key in other.keys:\n                continue\n",
    ),
    Mutant(
        "cycles-are-not-noticed-in-segments",
        RULE_BASED,
        'self.shuts_out = lambda context: shuts_out(context.within(("excluded", name)))',
        "self.shuts_out = lambda context: False",
    ),
    Mutant(
        "damage-far-away-is-ignored",
        ENGINE,
        '                raise DamagedError(f"{name} cannot be read") from error',
        "                self._unreadable.add(name)",
    ),
    Mutant("name-is-not-trimmed", ENGINE, "name = key.strip() if", "name = key if"),
    Mutant(
        "missing-attribute-is-not-negated",
        MATCHERS,
        "        return lambda context: not match(context)",
        "        return lambda context: (\n"
        "            context.values.get(name) is not None and not match(context)\n        )",
    ),
    Mutant(
        "empty-attribute-is-the-key",
        MATCHERS,
        'name = selector["attribute"] if',
        'name = selector["attribute"] or None if',
    ),
    Mutant(
        "segment-of-the-attribute",
        MATCHERS,
        "context.values.get(name) is not None and within(context)",
        "within(context)",
    ),
    Mutant(
        "floats-are-numbers",
        MATCHERS,
        "isinstance(value, (bool, float)):\n        return None",
        "isinstance(value, bool):\n        return None\n"
        "    if isinstance(value, float):\n"
        "        return int(value) if abs(value) < 1e300 else None",
    ),
    Mutant(
        "bools-are-numbers",
        MATCHERS,
        "isinstance(value, (bool, float))",
        "isinstance(value, float)",
    ),
    Mutant(
        "numerals-of-ascii-only",
        MATCHERS,
        "            return int(value)",
        "            return int(value.encode('ascii'))",
    ),
    Mutant(
        "dates-in-milliseconds",
        MATCHERS,
        "test(value - value % step if date else value, wanted)",
        "test(value // 1000 - value // 1000 % step if date else value, wanted)",
    ),
    Mutant(
        "equal-dates-by-minutes",
        MATCHERS,
        '"EQUAL_TO": _compared(_DAY',
        '"EQUAL_TO": _compared(_MINUTE',
    ),
    Mutant(
        "between-without-its-end",
        MATCHERS,
        "return low <= value <= high",
        "return low <= value < high",
    ),
    Mutant(
        "text-is-no-set",
        MATCHERS,
        "return test(words, set(value))",
        "return not isinstance(value, str) and test(words, set(value))",
    ),
    Mutant(
        "nothing-is-part-of-a-set", MATCHERS, "bool(given) and given <= words", "given <= words"
    ),
    Mutant(
        "truth-of-any-text", MATCHERS, 'value.lower().strip(" \\t\\r\\n")', "value.lower().strip()"
    ),
    Mutant(
        "lists-are-written-pythons-way", MATCHERS, "return json.dumps(value)", "return str(value)"
    ),
    Mutant(
        "whole-text-must-match",
        MATCHERS,
        're.compile(raw["stringMatcherData"]).search',
        're.compile(raw["stringMatcherData"]).fullmatch',
    ),
    Mutant(
        "metadata-does-not-count",
        SEMVER,
        "value.normal == wanted.normal",
        "_compare(value, wanted) == 0",
    ),
    Mutant(
        "pre-releases-as-texts",
        SEMVER,
        "if mine.isnumeric() and theirs.isnumeric():",
        "if False:",
    ),
    Mutant("pre-release-is-newer", SEMVER, "patch, not minus)", "patch, bool(minus))"),
)
