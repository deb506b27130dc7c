"""The benchmarks' own arithmetic: what judges others must be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.results import Part, Plot, load, save
from bench.stats import MET, NOT_MET, UNDECIDED, Ratio, ratio
from bench.svg import draw
from bench.units import CountingClient, size

if TYPE_CHECKING:
    from pathlib import Path


def test_a_ratio_is_the_median_of_the_pairs() -> None:
    """Not the ratio of medians: a slow round is slow for both."""
    found = ratio([1, 10, 100], [2, 40, 100])
    assert found.median == 0.5
    assert 0.25 <= found.low <= found.median <= found.high <= 1


def test_the_same_runs_give_the_same_interval() -> None:
    """Nobody can run the bootstrap again until he likes it."""
    ours, theirs = [1.0, 1.2, 0.9, 1.1, 1.0, 1.3, 0.8], [2.0, 2.1, 2.2, 1.9, 2.0, 1.7, 2.4]
    assert ratio(ours, theirs) == ratio(ours, theirs)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.2, MET), (0.21, 0.3, NOT_MET), (0.1, 0.3, UNDECIDED)]
)
def test_only_an_interval_on_one_side_decides(low: float, high: float, verdict: str) -> None:
    """A median that is below its goal by chance has met nothing."""
    assert Ratio(0.2, low, high).verdict(0.2) == verdict


def test_the_size_of_an_item_is_that_of_its_names_and_values() -> None:
    """As AWS counts: texts in UTF-8, bytes as they are, numbers two digits a byte."""
    item = {"key": {"S": "grün"}, "n": {"N": "12345"}, "body": {"B": b"12345"}}
    assert size(item) == 3 + 5 + 1 + 4 + 4 + 5


class FakeTable:
    """Answers as boto3's client does."""

    def put_item(self, **_: object) -> dict[str, object]:
        """Take it."""
        return {}

    def get_item(self, **arguments: object) -> dict[str, object]:
        """Return an item of 5,000 bytes."""
        return {"Item": {"key": {"S": "x" * 4_997}}, **arguments}

    def transact_write_items(self, **_: object) -> dict[str, object]:
        """Take it."""
        return {}


def test_units_follow_aws_rules() -> None:
    """A KB written is a unit, in a transaction two; 4 KB read are half a unit, or one."""
    client = CountingClient(FakeTable())
    item = {"key": {"S": "x" * 1_022}}
    client.put_item(TableName="t", Item=item)
    assert client.write_units == 2
    client.transact_write_items(TransactItems=[{"Put": {"TableName": "t", "Item": item}}])
    assert client.write_units == 6
    client.get_item(TableName="t", Key={})
    client.get_item(TableName="t", Key={}, ConsistentRead=True)
    assert client.read_units == 3
    assert client.requests() == 4


def test_what_was_measured_is_read_back(tmp_path: Path) -> None:
    """Parts that are run apart meet in one table."""
    part = Part("a title", run="today")
    part.timed("work", "peer", [1.0, 2.0], [2.0, 4.0], most=0.6)
    part.bars("bars", "ms", {"flagstore": [1.0, 2.0]})
    save(tmp_path / "kept.json", {"P1": part})
    kept = load(tmp_path / "kept.json")["P1"]
    assert kept.rows == part.rows
    assert kept.rows[0].verdict == MET


def test_plots_are_whole_documents() -> None:
    """Labels are escaped, and every point is there."""
    bars = draw(Plot("bars", "a < b", "ms", {"flagstore": (1, 0.5, 2), "theirs": (3, 2, 4)}))
    assert "a &lt; b" in bars
    assert bars.count("<rect") == 3
    lines = draw(Plot("lines", "growth", "ms", {"a": [(10, 1), (100, 5)], "b": [(10, 2)]}))
    assert lines.count("<circle") == 3
    assert lines.endswith("</svg>\n")
