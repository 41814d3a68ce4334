"""The page itself: template, style and script joined with the data into one HTML text."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jinja2


def render(data: dict[str, Any]) -> str:
    """Return the HTML of a report.

    Parameters
    ----------
    data : dict
        What `page_data` gave: "figures" are SVG texts made by us, the rest is shown as text only.
    """
    here = files("fmcluster.result.report")
    style = (here / "page.css").read_text(encoding="utf-8")
    script = (here / "page.js").read_text(encoding="utf-8")
    template = (here / "page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    figures = data.pop("figures")
    return environment.from_string(template).render(
        title=data["title"],
        facts=data["facts"],
        metrics=data["metrics"],
        figures=figures,
        has_map=bool(data["map"]["x"]),
        to_label=data["to_label"],
        issues=data["issues"],
        style=style,
        script=script,
        data=embed_json(data),
    )


def embed_json(value: Any) -> str:
    """Return JSON that is safe inside a script element: no ``<``, ``>`` or ``&`` is left in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
