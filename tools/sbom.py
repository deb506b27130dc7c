"""Write the bill of materials of the functions (CycloneDX 1.6) from their locked requirements.

`make sbom` writes dist/sbom.json, reproducibly: without a time or a random serial number.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from tools.dist import version

REPOSITORY = Path(__file__).parents[1]
LOCK = REPOSITORY / "src" / "requirements.txt"
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def pins(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Return name → version and SHA-256 digests of the packages in a lock file."""
    found: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in lock.splitlines():
        if pin := _PIN.match(line):
            name = pin[1]
            found[name] = (pin[2], [])
        found.get(name, ("", []))[1].extend(_HASH.findall(line))
    return found


def component(name: str, pinned: str, digests: list[str]) -> dict[str, Any]:
    """Describe one package, with the digests of all its files in the index."""
    purl = f"pkg:pypi/{name}@{pinned}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": pinned,
        "purl": purl,
        "externalReferences": [
            {
                "type": "distribution",
                "url": purl,
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in digests],
            }
        ],
    }


def bill(lock: str) -> dict[str, Any]:
    """Return the bill of materials for a lock file."""
    own = f"pkg:pypi/flagstore@{version()}"
    packages = [component(name, *pinned) for name, pinned in sorted(pins(lock).items())]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "flagstore",
                "version": version(),
                "purl": own,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": packages,
        "dependencies": [{"ref": own, "dependsOn": [package["bom-ref"] for package in packages]}],
    }


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args().file
    file.parent.mkdir(parents=True, exist_ok=True)
    document = bill(LOCK.read_text(encoding="utf-8"))
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{file}: {len(document['components'])} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
