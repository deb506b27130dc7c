"""Faults planted into an engine: a campaign that does not find one proves little."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

SRC = Path(__file__).parents[2] / "src"


class Mutant(NamedTuple):
    """One fault, as a replacement of a text that is there exactly once."""

    name: str
    module: str
    """The file, from ``flagstore/evaluation/`` on."""
    old: str
    new: str


def plant(mutant: Mutant, folder: Path) -> Path:
    """Copy the package with a mutant in it; returns the folder to import it from."""
    shutil.copytree(
        SRC / "flagstore", folder / "flagstore", ignore=shutil.ignore_patterns("__pycache__")
    )
    file = folder / "flagstore" / "evaluation" / mutant.module
    text = file.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.name}: {text.count(mutant.old)} places"
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return folder
