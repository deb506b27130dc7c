"""Plots as SVG: bars with their spread, and lines over two logarithmic axes. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.results import Plot

WIDTH = 760
LABELS = 290
BAR = 20
STEP = 30
TOP = 44
HEIGHT = 360
LEFT, RIGHT, BOTTOM = 70, 570, 310
COLOURS = ("#0b7a75", "#c8553d", "#6c5b9e", "#8a8d91", "#b8860b")
STYLE = "font-family:system-ui,sans-serif;font-size:13px;fill:#333"


def draw(plot: Plot) -> str:
    """Return the whole file."""
    height = TOP + STEP * len(plot.data) + 12 if plot.kind == "bars" else HEIGHT
    shapes = _bars(plot) if plot.kind == "bars" else _lines(plot)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" style="{STYLE}">'
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    title = _text(10, 24, plot.title, "font-weight:600;font-size:15px")
    return "\n".join([head, ground, title, *shapes, "</svg>"]) + "\n"


def _bars(plot: Plot) -> Iterator[str]:
    most = max(values[2] for values in plot.data.values()) or 1
    scale = (WIDTH - LABELS - 110) / most
    for number, (label, (middle, low, high)) in enumerate(plot.data.items()):
        y = TOP + STEP * number
        colour = COLOURS[0] if label.startswith("flagstore") else COLOURS[3]
        yield _text(LABELS - 8, y + 15, label, "text-anchor:end")
        yield _rect(LABELS, y, middle * scale, BAR, colour)
        yield _line(LABELS + low * scale, y + 10, LABELS + high * scale, y + 10, "#222")
        yield _text(LABELS + high * scale + 8, y + 15, f"{middle:.3g} {plot.unit}")


def _lines(plot: Plot) -> Iterator[str]:
    points = [point for series in plot.data.values() for point in series]
    across = _axis([x for x, _ in points], LEFT, RIGHT)
    upward = _axis([y for _, y in points], BOTTOM, TOP + 10)
    for x in sorted({x for x, _ in points}):
        yield _line(across(x), BOTTOM, across(x), TOP + 10, "#e4e4e4")
        yield _text(across(x), BOTTOM + 20, f"{x:,.0f}", "text-anchor:middle")
    values = [y for _, y in points]
    for power in range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1):
        for y in (10.0**power, 3 * 10.0**power):
            if min(values) * 0.8 <= y <= max(values) * 1.2:
                yield _line(LEFT, upward(y), RIGHT, upward(y), "#e4e4e4")
                yield _text(LEFT - 8, upward(y) + 4, f"{y:,.10g}", "text-anchor:end")
    yield _text(LEFT - 8, TOP - 2, plot.unit, "text-anchor:end")
    yield _text(RIGHT, BOTTOM + 40, "flags", "text-anchor:end")
    yield from _series(plot.data, across, upward)


def _series(data: Mapping[str, Sequence[tuple[float, float]]], across, upward) -> Iterator[str]:  # type: ignore[no-untyped-def] # noqa: ANN001 - two functions
    taken: list[float] = []
    for number, (label, series) in enumerate(data.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{upward(y):.1f}" for x, y in series)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        for x, y in series:
            yield f'<circle cx="{across(x):.1f}" cy="{upward(y):.1f}" r="3.5" fill="{colour}"/>'
        place = upward(series[-1][1]) + 4
        while any(abs(place - other) < 15 for other in taken):  # noqa: PLR2004 - a line's height
            place += 4
        taken.append(place)
        yield _text(RIGHT + 10, place, label, f"fill:{colour}")


def _axis(values: Sequence[float], start: float, end: float):  # type: ignore[no-untyped-def] # noqa: ANN202 - a function
    low, high = math.log(min(values)), math.log(max(values))
    width = (high - low) or 1

    def place(value: float) -> float:
        return start + (math.log(value) - low) / width * (end - start)

    return place


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def _line(x: float, y: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
