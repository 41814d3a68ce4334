"""The page itself: template, style and scripts joined with the data into one HTML text.

The scripts are the modules that the app serves one by one. A page from ``file://`` can load no
module, so they are joined: what is in one another's names stays one script of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2

# In the order in which they need each other.
SCRIPTS = ("dom.js", "map.js", "report.js")
STYLES = ("theme.css", "report.css")
_IMPORT = re.compile(r"^import \{[^}]*\} from \"[^\"]*\";\n", re.M)
_EXPORT = re.compile(r"^export (?=const |function |class |let |async function )", re.M)


def render(data: dict[str, Any]) -> str:
    """Return the HTML of a report.

    Parameters
    ----------
    data : dict
        What `page_data` gave: "figures" are SVG texts made by us, the rest is shown as text only.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    figures = data.pop("figures")
    sections = ("confusions", "outliers", "to_label", "issues")
    has = {name: bool(data[name]) for name in sections}
    return environment.from_string(static("report.html")).render(
        title=data["title"],
        facts=data["facts"],
        trust=data["trust"],
        metrics=data["metrics"],
        word=data["word"],
        figures=figures,
        has={**has, "duplicates": bool(data["duplicates"]["pairs"])},
        style="".join(map(static, STYLES)),
        script=joined(list(map(static, SCRIPTS))),
        data=embed_json(data),
    )


def static(name: str) -> str:
    """Return one of the page's files; the app serves some of them, too."""
    return (files("fmcluster.result.report") / "static" / name).read_text(encoding="utf-8")


def joined(modules: Sequence[str]) -> str:
    """Return ES modules as one script: imports go, and what is exported is there for those after.

    Raises
    ------
    ValueError
        A module imports or exports in a way that this does not know.
    """
    body = "\n".join(_EXPORT.sub("", _IMPORT.sub("", text)) for text in modules)
    left = re.search(r"^(import|export)\b.*", body, re.M)
    if left:
        raise ValueError(f"{left.group()!r} cannot be joined into one script")
    return f'"use strict";\n(function () {{\n{body}\n}})();\n'


def embed_json(value: Any) -> str:
    """Return JSON that is safe inside a script element: no ``<``, ``>`` or ``&`` is left in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
