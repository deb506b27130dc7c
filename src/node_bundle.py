"""Bundle flagstore for Node.js: a cold start reads one file faster than twenty.

``python node_bundle.py FOLDER`` joins the modules of lib/ into index.js, in a copy of src/node.
They stay beside it for adapters/ and appconfig/, which must take whatever has an identity or a
state (errors, clients) from index.js.
"""

from __future__ import annotations

import sys
from pathlib import Path

_BUNDLE = """\
"use strict";

const modules = {{
{modules}}};
const loaded = {{}};

function load(name) {{
  if (loaded[name] === undefined) {{
    loaded[name] = {{ exports: {{}} }};
    modules[name](loaded[name]);
  }}
  return loaded[name].exports;
}}

{index}"""


def bundle(package: Path) -> None:
    """Rewrite the index.js of a package."""
    modules = [
        f'"./{path.name}"(module) {{\n{path.read_text("utf-8")}\n}},\n'
        for path in sorted(package.glob("lib/[a-z]*.js"))
    ]
    main = package / "index.js"
    index = main.read_text("utf-8").removeprefix('"use strict";\n\n')
    index = index.replace('require("./lib/', 'load("./')
    # Bundlers of functions find `require` by its name.
    texts = "".join(modules).replace('require("./', 'load("./')
    main.write_text(_BUNDLE.format(modules=texts, index=index), "utf-8")


if __name__ == "__main__":
    bundle(Path(sys.argv[1]))
