"""Writes locales/en/nodeDefs.json from what a running ComfyUI says about our nodes.

Translators copy that file to locales/<language>/ and change the texts; tests compare it with the nodes.
"""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

from gf_core.arguments import Parser

PLACE = Path(__file__).resolve().parents[2] / "locales" / "en" / "nodeDefs.json"


def node_texts(object_info: dict[str, Any]) -> dict[str, Any]:
    """Texts of every node whose id begins with GF_, in the order of their ids."""
    return {
        name: _quoted(_texts(info)) for name, info in sorted(object_info.items()) if name.startswith("GF_")
    }


def _quoted(texts: Any) -> Any:
    """`texts` as the front end's translator reads them: @ { } | are its syntax and stand in {'...'}."""
    if isinstance(texts, dict):
        return {key: _quoted(value) for key, value in texts.items()}
    return re.sub(r"[@{}|]", lambda found: "{'" + found[0] + "'}", texts)


def _texts(info: dict[str, Any]) -> dict[str, Any]:
    groups = (info["input"].get("required", {}), info["input"].get("optional", {}))
    inputs = {}
    for name, declared in ((name, spec) for group in groups for name, spec in group.items()):
        settings = declared[1] if len(declared) > 1 else {}
        inputs[name] = {
            "name": settings.get("display_name") or name.replace("_", " "),
            "tooltip": settings.get("tooltip", ""),
        }
    outputs = {
        str(number): {"name": name, "tooltip": tooltip}
        for number, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"]))
    }
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        "outputs": outputs,
    }


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("url", help="such as http://127.0.0.1:8188")
    parser.add_argument("file", type=Path, nargs="?", default=PLACE)
    args = parser.parse_args()
    with urllib.request.urlopen(f"{args.url.rstrip('/')}/object_info") as answer:
        found = node_texts(json.load(answer))
    args.file.parent.mkdir(parents=True, exist_ok=True)
    args.file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
