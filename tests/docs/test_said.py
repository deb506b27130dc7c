"""What pages say by hand of the code: limits, attributes, metrics; held against it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flagstore.layout import Head, Pulse
from simulators.template import read_template
from storesync.guard import MAY_LOSE_ITEMS, MAY_LOSE_SHARE, may_lose
from storesync.observability import TOTALS, UNITS
from tests.docs.pages import read
from torture.promises import PROMISES

SOURCES = Path(__file__).resolve().parents[2] / "src"
SHARE = f"{MAY_LOSE_SHARE:.0%}".replace("%", " %")
BOTH = f"more than {MAY_LOSE_ITEMS} and more than {SHARE}"
GIVEN_OUT = {"Flags", "Segments", "ReaderAgeSeconds", "ReaderStale"}
"""Metrics that the writer's code does not spell: sections of a set, and those of readers."""


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("docs/sources.md", f"lost {BOTH} of its flags"),
        ("docs/outages.md", f"{BOTH} are gone: refused"),
        ("docs/guarantees.md", f"loses more than max({MAY_LOSE_ITEMS}, {SHARE}) is refused"),
        ("SECURITY.md", f"empty or lost more than {SHARE} is refused"),
    ],
)
def test_the_limit_of_what_may_go_is_the_guards(page: str, says: str) -> None:
    """Whoever changes how much a set may lose is led to each page that says it."""
    assert says in " ".join(read(page).split())


def test_the_promise_about_what_may_go_is_the_guards() -> None:
    """The text that `make torture` writes into guarantees.md says the same limit."""
    assert any(f"max({MAY_LOSE_ITEMS}, {SHARE})" in promise.text for promise in PROMISES)


def test_the_example_of_a_refused_set_is_refused() -> None:
    """The outage's picture shows a loss that the guard would not let through."""
    (told,) = re.findall(r"(\d+) flags become (\d+), or none", read("docs/outages.md"))
    had, left = map(int, told)
    assert had - left > may_lose(had)


def test_the_age_that_rings_is_the_templates() -> None:
    """Three schedules of the default are as many minutes as the pages say."""
    minutes = 3 * int(read_template()["Parameters"]["ReconcileMinutes"]["Default"])
    assert f"is older than {minutes} minutes (three schedules)" in read("docs/runbook.md")
    assert f"after {minutes} minutes FreshnessAlarm" in read("docs/outages.md")
    assert f"after {minutes} minutes [FreshnessAlarm]" in read("docs/outages.md")


@pytest.mark.parametrize(
    ("namespace", "fields"),
    [("<source>:$pulse", Pulse._fields), ("<source>:$head", Head._fields)],
)
def test_each_attribute_is_on_the_page(namespace: str, fields: tuple[str, ...]) -> None:
    """A new attribute of pulse or head has its name in the table of what is stored."""
    page = read("docs/store-layout.md")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{namespace}`")]
    listed = row.split(" | ")[2].partition(": ")[2]
    assert set(re.findall(r"`(\w+)`", listed)) == set(fields)


def test_each_metric_is_in_the_runbook() -> None:
    """What the functions write is in its table, and what is in its table they write."""
    table = read("docs/runbook.md").partition("| metric | unit | meaning |")[2]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    spelt = set(UNITS) | TOTALS
    for module in ("reporting", "webhook"):
        text = (SOURCES / "storesync" / f"{module}.py").read_text(encoding="utf-8")
        spelt |= set(re.findall(r'"((?:[A-Z][a-z]+)+)"', text)) - {"Error"}
    assert listed - GIVEN_OUT == spelt
