"""CloudWatch's part: metrics out of log lines, and the alarms of the template."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STATISTICS = {"Sum": sum, "Maximum": max, "Minimum": min}
OPERATORS = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}


@dataclass(frozen=True)
class Point:
    namespace: str
    name: str
    dimensions: Mapping[str, str]
    time_s: float
    value: float


def points(line: Mapping[str, Any], time_s: float) -> list[Point]:
    """Return the metrics that CloudWatch makes of a line in its embedded format."""
    return [
        Point(directive["Namespace"], name, {each: line[each] for each in names}, time_s, value)
        for directive in line["_aws"]["CloudWatchMetrics"]
        for names in directive["Dimensions"]
        for name in (metric["Name"] for metric in directive["Metrics"])
        for value in (line[name] if isinstance(line[name], list) else [line[name]])
    ]


class Stack:
    def __init__(self, template: Mapping[str, Any], references: Mapping[str, str]) -> None:
        self._template = template
        defaults = {
            name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()
        }
        self._references = {**defaults, **references}

    def has(self, name: str) -> bool:
        """Return whether a resource is created."""
        condition = self._template["Resources"][name].get("Condition")
        return condition is None or self._condition({"Condition": condition})

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref":
                return self._references.get(argument)
            if name.startswith("Fn::"):
                return self._call(name.removeprefix("Fn::"), argument)
        return {name: self.value(each) for name, each in value.items()}

    def _call(self, function: str, argument: Any) -> Any:
        if function == "GetAtt":
            return self._references[".".join(argument)]
        if function == "FindInMap":
            name, first, second = self.value(argument)
            return self._template["Mappings"][name][first][second]
        if function == "Sub":
            text = re.sub(r"\$\{(?!!)([\w:.]+)\}", lambda m: self._references[m[1]], argument)
            return text.replace("${!", "${")
        if function == "If":
            holds = self._condition(self._template["Conditions"][argument[0]])
            return self.value(argument[1 if holds else 2])
        raise NotImplementedError(function)

    def _condition(self, value: Any) -> bool:
        ((name, argument),) = value.items()
        if name == "Condition":
            return self._condition(self._template["Conditions"][argument])
        if name == "Fn::And":
            return all(map(self._condition, argument))
        if name == "Fn::Not":
            return not self._condition(argument[0])
        left, right = self.value(argument)
        return bool(left == right)


class Alarm:
    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = properties
        self.period_s = int(properties["Period"])
        self._count = int(properties["EvaluationPeriods"])
        self.span_s = self.period_s * self._count

    def is_on(self, points: Sequence[Point], now_s: float) -> bool:
        breaching = 0
        for number in range(self._count):
            end = now_s - number * self.period_s
            within = [p for p in points if end - self.period_s < p.time_s <= end]
            breaching += self._breaches(self._datum(within))
        return breaching >= self._properties.get("DatapointsToAlarm", self._count)

    def _breaches(self, datum: float | None) -> bool:
        if datum is None:
            return bool(self._properties["TreatMissingData"] == "breaching")
        compare = OPERATORS[self._properties["ComparisonOperator"]]
        return bool(compare(datum, self._properties["Threshold"]))

    def _datum(self, within: Iterable[Point]) -> float | None:
        metric = self._properties["Namespace"], self._properties["MetricName"]
        dimensions = {each["Name"]: each["Value"] for each in self._properties["Dimensions"]}
        values = [
            point.value
            for point in within
            if (point.namespace, point.name) == metric and point.dimensions == dimensions
        ]
        return float(STATISTICS[self._properties["Statistic"]](values)) if values else None
