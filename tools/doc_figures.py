"""Writes every generated part of README and docs.

From the constants of the sources, the defaults of template.yaml and what the benchmarks measured:
``PYTHONPATH=src:tests:. .venv/bin/python -m tools.doc_figures``. tests/docs/test_generated.py
compares the pages with this.
"""

from __future__ import annotations

from pathlib import Path

from tools import (
    doc_compared,
    doc_tables,
    figures_capacity,
    figures_cost,
    figures_propagation,
)
from tools.markdown import replaced

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {
    "../README.md": doc_compared.tables,
    "capacity.md": figures_capacity.tables,
    "cost.md": figures_cost.tables,
    "iam.md": doc_tables.of_rights,
    "parameters.md": doc_tables.of_parameters,
    "propagation.md": figures_propagation.tables,
}


def parts() -> dict[tuple[str, str], str]:
    """Return every generated part: page in docs and name, and its Markdown."""
    return {(page, name): text for page, made in PAGES.items() for name, text in made().items()}


def main() -> None:
    """Write them all into their pages."""
    for (page, name), text in parts().items():
        path = DOCS / page
        path.write_text(replaced(path.read_text(encoding="utf-8"), name, text), encoding="utf-8")


if __name__ == "__main__":
    main()
