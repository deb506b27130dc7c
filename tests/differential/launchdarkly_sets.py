"""Random flag sets and contexts for LaunchDarkly that meet each edge case often.

Values come from small pools, so that flags and contexts often have the same values, or nearly so: a
few strings have a character more or less, a few fields any type.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from differential.python_values import VALUES as VALUES_OF_PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Draw = Callable[[Random], Any]

FLAGS = [f"flag-{number}" for number in range(7)]
CONTEXTS = 12

# fmt: off
TEXTS = [
    "", "a", "ab", "abc", "b", "c", "A", "é", "日本", "a\n", "٣", "3", "1", "true", "user", "a.c",
]
NUMBERS = [0, 1, 2, 3, -1, 99, 1.0, 1.5, 2.0, -0.0, 0.1 + 0.2, 0.3, 1e300]
NUMBERS += [2**53, 2**53 + 1, 2**53 + 1, 2.0**53] * 2  # no float has the odd ones
DATES = [
    "2017-12-06T00:00:00Z", "2017-12-06T00:00:00.000-07:00", "2017-12-06T07:00:00.000Z",
    "2017-12-06T07:00:00.001z", "2017-12-06T06:59:59z", "2017-12-06 07:00:00+00:00",
    "20171206T070000Z", "2017-12-06T07:00Z", "2017-12-06T07:00:00,5Z", "2017-W49-3T07:00:00Z",
    "2017-12-06T07:00:00", "2017-12-06", "2017-12-06T25:00:00Z", "2017-12-06T07:00:60Z",
    "2017-12-06T07:00:00Z\n", "1512543600000", "2017-12-06T07:00:00.1234567Z",
    1512543600000, 1512543600000.0, 1512543600001, 0,
]
VERSIONS = [
    "2.0.0", "2", "2.0", "2.0.1", "2.1.0", "10.0.0", "2.0.0-rc.1", "2.0.0-rc", "2-rc1", "2.0-rc.1",
    "2.0.0+build", "2+build", "2.0.0-rc.1+b.1", "v2", "02.0.0", "2.0.0.0", "2.", "", "2.0.0-",
    "2.0.0-01", "2.0.0-1a", "2.0.0-1", "2.0.0-a..b", "2\nx", " 2", "2.0.0-é", "٢.0.0", "2.0.0-A",
    "2.0.0--", "2.0.0+", "2.0.0+a_b", *["2.0.0-rc.2", "2.0.0-rc.10", "2.0.0-9", "2.0.0-10"] * 7,
]
PATTERNS = [
    "a", "^a", "c$", "^$", "b|c", r"\d", r"^\w+$", "a.c", "(", "[", "(?i)A", r"(?=a)ab", "é",
]
# fmt: on
TYPES: list[list[Any]] = [
    *(TEXTS[:6], [0, 1, 2, 3], [0.0, 1.0, 1.5, 2.0], [True, False], [None]),
    *([{}, {"x": 1}, {"x": True}], [[], ["a"], [1], [True], [[1]], ["a", 1]]),
]
"""A few values of each type that JSON has: all of them meet all operators."""
POOLS: dict[str, list[Any]] = {"text": TEXTS, "number": NUMBERS, "date": DATES, "version": VERSIONS}
SUBJECTS = {
    **dict.fromkeys(["startsWith", "endsWith", "contains", "matches"], "text"),
    **dict.fromkeys(["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"], "number"),
    **dict.fromkeys(["before", "after"], "date"),
    **dict.fromkeys(["semVerEqual", "semVerLessThan", "semVerGreaterThan"], "version"),
    **dict.fromkeys(["in", "unknownOperator"], "any"),
}
OPERATORS = [*SUBJECTS, "in", "segmentMatch", "segmentMatch"]
ODD: list[Any] = [None, True, 1.5, "x", [], {}, ["x"], {"x": 1}]
"""Values of damaged fields of contexts."""
KEYS = ["a", "b", "c", "d", "é", "user-1", "user-2", "user-3", "user-4", "user-5", "3", "\ud800"]
KINDS = ["user", "user", "user", "org", "device"]


def one_of(values: list[Any]) -> Draw:
    """Draw copies, so that a flag and a context share nothing."""
    return lambda random: copy.deepcopy(random.choice(values))


def between(low: int, high: int) -> Draw:
    """Draw a number, both ends included."""
    return lambda random: random.randint(low, high)


def some(one: Draw, most: int, least: int = 0) -> Draw:
    """Draw a list."""
    return lambda random: [one(random) for _ in range(random.randint(least, most))]


def any_type(random: Random) -> Any:
    """Draw a value of a type that is drawn first."""
    return one_of(random.choice(TYPES))(random)


def varied(one: Draw) -> Draw:
    """Draw the same, but change a character of some strings."""

    def draw(random: Random) -> Any:
        value = one(random)
        if not isinstance(value, str) or random.random() < 0.8:
            return value
        at = random.randint(0, len(value))
        character = random.choice(["", *"0129.-+:,TZzWa é٣\n"])
        return value[:at] + character + value[at + random.randint(0, 1) :]

    return draw


ONE_OF = {name: varied(one_of(pool)) for name, pool in POOLS.items()} | {"any": any_type}
ONE_PATTERN, ONE_KEY, ONE_KIND = one_of(PATTERNS), one_of(KEYS), one_of(KINDS)
ONE_OPERATOR = one_of(OPERATORS)
DICE = between(0, 99)
LISTED_KEYS = some(ONE_KEY, 4)
LITERALS = one_of(["key", "kind", "name", "anonymous", "/slash", "gone", "_meta", "custom"])
REFERENCES = one_of(
    [
        *["/nested/text", "/nested/number", "/nested/any", "/nested/deep/date", "text", "any"] * 2,
        *[
            "/nested",
            "/nested/gone",
            "/~1slash",
            "/til~0de",
            "/til~01de",
            "/any",
            "/any/x",
            "/kind",
        ],
        *["/key", "number", "/version"],
    ]
)
BAD_REFERENCES = one_of(["", "/", "//", "/text/", "/til~2de", "/til~", "/a//b"])


class Maker:
    """Makes flag sets and contexts."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def draw(self, draw: Draw) -> Any:
        """Draw a value."""
        return draw(self.random)

    def pick(self, *values: Any) -> Any:
        """Draw one of some values."""
        return self.draw(one_of([*values]))

    def chance(self, percent: int) -> bool:
        """Return true in a percentage of calls."""
        return self.draw(DICE) < percent

    def reference(self) -> str:
        """Return a reference to an attribute; a few are invalid."""
        made: str = self.draw(BAD_REFERENCES if self.chance(6) else REFERENCES)
        return made

    def value(self, subject: str) -> Any:
        """Return a value of a context: one of the subject, of any type, or a list of such."""
        dice = self.draw(DICE)
        if self.chance(14):
            return self.draw(one_of(VALUES_OF_PYTHON))
        if dice < 40:
            return self.draw(ONE_OF[subject])
        if dice < 70:
            return self.draw(ONE_OF["any"])
        values = [self.draw(any_type) for _ in range(self.draw(between(0, 4)))]
        if self.chance(50):
            values.append(self.draw(ONE_OF[subject]))
        return tuple(values) if self.chance(20) else values

    def attributes(self, kind: str | None) -> dict[str, Any]:
        """Return a context of one kind that is well-formed, with a kind if one is given."""
        made = {} if kind is None else {"kind": kind}
        made["key"] = self.draw(ONE_KEY)
        for subject in ONE_OF:
            if not self.chance(8):
                made[subject] = self.value(subject)
        made["mixed"] = [self.draw(one_of(values)) for values in TYPES]
        self.random.shuffle(made["mixed"])
        made["nested"] = {subject: self.value(subject) for subject in ("text", "number", "any")}
        made["nested"]["deep"] = {"date": self.value("date")}
        if self.chance(75):
            made |= {"/slash": self.value("text"), "til~de": self.value("number")}
            made["til~1de"] = self.value("text")
        if self.chance(20):
            made |= {"name": self.pick("a", "abc", None)}
        if self.chance(20):
            made |= {"anonymous": self.chance(50), "_meta": {"privateAttributes": ["text"]}}
        if self.chance(10):
            made["nested"] = self.draw(one_of(ODD))
        return made

    def context(self) -> dict[str, Any]:
        """Return a context of one or several kinds; a few are malformed."""
        if self.chance(65):
            made = self.attributes(self.pick(*KINDS, None))
        else:
            kinds = sorted(set(self.draw(some(ONE_KIND, 4, 1))))
            made = {"kind": "multi"} | {
                kind: self.attributes("org" if self.chance(5) else None) for kind in kinds
            }
        if self.chance(3):
            field = self.pick("key", "kind", "name", "anonymous", "", "user", "org")
            made[field] = self.draw(one_of(ODD))
        if self.chance(1):
            made["kind"] = self.pick("", "kind", "multi", "a b", "é", "a.b-c_D9")
        return made

    def clause(self) -> dict[str, Any]:
        """Return a clause, mostly a meaningful one."""
        operator = self.draw(ONE_OPERATOR)
        made: dict[str, Any] = {"op": operator, "negate": self.chance(25)}
        if operator == "segmentMatch":
            values = some(one_of(["s-0", "s-1", "s-2", "s-3", "gone"]), 3)
            return made | {"attribute": "", "values": self.draw(values)}
        subject = SUBJECTS[operator] if self.chance(75) else self.pick(*ONE_OF)
        required = ONE_PATTERN if operator == "matches" else ONE_OF[SUBJECTS[operator]]
        made["values"] = [
            self.draw(ONE_OF["any"] if self.chance(15) else required)
            for _ in range(self.pick(0, 1, 1, 1, 2, 2, 3))
        ]
        made["attribute"] = subject
        dice = self.draw(DICE)
        if dice < 15:
            made |= {"attribute": self.draw(LITERALS)}
        elif dice < 40:
            kind = self.pick("user", "user", "org", "")
            made |= {"contextKind": kind, "attribute": self.reference()}
        elif dice < 50:
            made |= {"contextKind": self.draw(ONE_KIND)}
        if made["attribute"] in {"key", "kind", "/kind", "/key", "name"}:
            made["values"] += self.draw(some(one_of([*KINDS, *KEYS]), 2))
        return made

    def choice(self) -> dict[str, Any]:
        """Return the result of a rule: a variation, rollout or experiment."""
        dice = self.draw(DICE)
        if dice < 50:
            return {"variation": dice % 3}
        if dice < 52:
            return {"variation": self.pick(3, -1, None)}
        rollout: dict[str, Any] = {
            "variations": [
                {"variation": self.pick(*[0, 1, 2] * 8, 5), "weight": weight}
                for weight in self.draw(WEIGHTS)
            ],
            "kind": self.pick("rollout", "experiment", "experiment"),
        }
        for share in rollout["variations"]:
            if self.chance(20):
                share["untracked"] = True
        rollout |= self.placing("contextKind")
        if self.chance(40):
            rollout["seed"] = self.pick(0, 1, 61, -5, None)
        return {"rollout": rollout} | ({"variation": 1} if self.chance(5) else {})

    def placing(self, kind: str) -> dict[str, Any]:
        """Return how contexts are placed for a rollout or in a segment."""
        made: dict[str, Any] = {}
        if self.chance(40):
            made[kind] = self.pick("user", "org", "device", "")
        if self.chance(50):
            names = ["text", "number", "any", "key", "kind", "anonymous", "gone", "", "/slash"]
            made["bucketBy"] = self.draw(one_of(names)) if self.chance(70) else self.reference()
        return made

    def targets(self, *, kinds: bool) -> list[dict[str, Any]]:
        """Return targets, of users or of any kind."""
        made = []
        for _ in range(self.draw(between(0, 3))):
            target = {"variation": self.pick(*[0, 1, 2] * 5, 7), "values": self.draw(LISTED_KEYS)}
            made.append(
                target | ({"contextKind": self.pick("user", "org", "", None)} if kinds else {})
            )
        return made

    def rule(self) -> dict[str, Any]:
        """Return a rule of a flag."""
        clauses = [self.clause() for _ in range(self.pick(*[1, 2] * 6, 3, 0))]
        return self.choice() | {"id": self.pick("r", "é", None), "clauses": clauses}

    def flag(self, key: str) -> dict[str, Any]:
        """Return a flag."""
        made: dict[str, Any] = {
            "key": key,
            "version": self.pick(1, 2, 30),
            "on": not self.chance(14),
            "salt": self.pick("salt", "é", "", None),
            "variations": [self.draw(VALUES) for _ in range(3)],
            "offVariation": self.pick(0, 1, 2, 0, 1, 2, 0, 1, 2, None, None, 3),
            "fallthrough": self.choice(),
            "rules": [self.rule() for _ in range(self.draw(between(1, 7)))],
        }
        if self.chance(36):
            made["targets"] = self.targets(kinds=False)
            if self.chance(55):
                made["contextTargets"] = self.targets(kinds=True)
        if self.chance(28):
            made["prerequisites"] = [
                {"key": self.draw(ONE_FLAG), "variation": self.pick(0, 1, 2, 1)}
                for _ in range(self.draw(between(1, 2)))
            ]
        return {**made, "deleted": True} if self.chance(1) else made

    def probe(self, key: str) -> dict[str, Any]:
        """Return a flag whose rules bring each operator to a value of each type."""
        rules = []
        for operator, subject in SUBJECTS.items():
            required = ONE_PATTERN if operator == "matches" else ONE_OF[subject]
            attribute = "mixed" if self.chance(50) else subject
            clause = {
                "op": operator,
                "attribute": attribute,
                "values": self.draw(some(required, 2, 1)),
            }
            seldom = {"op": "in", "attribute": "key", "values": self.draw(some(ONE_KEY, 2))}
            clauses = [clause | {"negate": self.chance(40)}, seldom]
            rules.append({"id": operator, "variation": len(rules) % 3, "clauses": clauses})
        self.random.shuffle(rules)
        return self.flag(key) | {"on": True, "rules": rules, "prerequisites": [], "targets": []}

    def segment(self, key: str) -> dict[str, Any]:
        """Return a segment."""
        made: dict[str, Any] = {"key": key, "version": 1, "salt": "salt"}
        for field in ("included", "excluded"):
            if self.chance(40):
                made[field] = self.draw(LISTED_KEYS)
            if self.chance(30):
                made[f"{field}Contexts"] = [
                    {"contextKind": self.pick("user", "org", "", None)}
                    | {"values": self.draw(LISTED_KEYS)}
                ]
        made["rules"] = []
        for _ in range(self.draw(between(0, 2))):
            rule = {"clauses": [self.clause() for _ in range(self.pick(1, 1, 2, 0))]}
            if self.chance(40):
                rule |= self.placing("rolloutContextKind")
                rule["weight"] = self.pick(0, 0, 0, 50_000, 100_000, 1, None)
            made["rules"].append(rule)
        return {**made, "deleted": True} if self.chance(1) else made


WEIGHTS = one_of(
    [
        *([50_000, 50_000], [0, 100_000], [10_000, 20_000, 70_000], [0, 0, 100_000], [1, 1], []),
        *([33_333, 33_333, 33_334], [100_000, 0], [60_000, 10_000, 0]),
    ]
)
VALUES = one_of([True, False, None, 0, 1, 1.0, "a", "", {"x": [1]}, [1, "b"]])
ONE_FLAG = one_of([*FLAGS, "gone"])


def make(random: Random) -> Any:
    """Make a flag set, and contexts for it."""
    maker = Maker(random)
    flags = {key: maker.flag(key) for key in FLAGS} | {"probe": maker.probe("probe")}
    segments = {f"s-{number}": maker.segment(f"s-{number}") for number in range(4)}
    return flags, segments, [maker.context() for _ in range(CONTEXTS)]
