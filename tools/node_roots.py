"""Write Amazon's root certificates for the reader in Node.js, from the one copy in Python.

``python -m tools.node_roots``; ``tests/node/test_reader.py`` compares the two.
"""

from __future__ import annotations

from pathlib import Path

from flagstore.stores import amazon_roots

FILE = Path(__file__).resolve().parents[1] / "src" / "node" / "lib" / "amazon_roots.js"
TEXT = """"use strict";

/**
 * The root certificates of Amazon Trust Services, which all AWS endpoints' certificates chain to.
 *
 * Written by `python -m tools.node_roots` from flagstore/stores/amazon_roots.py: change that one.
 */
module.exports = `\\
{pem}`;
"""


def javascript() -> str:
    """Return the module's text."""
    return TEXT.format(pem=amazon_roots.PEM)


if __name__ == "__main__":
    FILE.write_text(javascript(), encoding="utf-8")
