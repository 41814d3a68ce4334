"""Numpydoc docstrings read into parts, and their reStructuredText turned into Markdown."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

SECTIONS = ("Parameters", "Returns", "Yields", "Raises", "Attributes", "Notes", "Examples")
TITLES = "|".join((*SECTIONS, "See Also", "References", "Other Parameters", "Warns", "Methods"))


@dataclass(frozen=True)
class Field:
    """A documented name: ``name : type`` and the text under it."""

    name: str
    type: str
    text: str


class Docstring:
    """A docstring's first line, its text and its sections."""

    def __init__(self, doc: str) -> None:
        pieces = re.split(rf"^({TITLES})\n-{{3,}}\n", doc, flags=re.M)
        first, _, rest = pieces[0].partition("\n\n")
        self.summary = first
        self.text = rest.strip("\n")
        self.sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))

    def prose(self, section: str) -> str:
        """Return a section as it is."""
        return self.sections.get(section, "").rstrip()

    def section(self, section: str) -> list[Field]:
        """Return the fields of a section."""
        fields: list[Field] = []
        lines: list[str] = []
        for line in [*self.prose(section).split("\n"), "end"]:
            if line and not line[0].isspace():
                if lines:
                    name, _, kind = lines[0].partition(" : ")
                    text = textwrap.dedent("\n".join(lines[1:])).strip("\n")
                    fields.append(Field(name.strip(), kind.strip(), text))
                lines = [line]
            elif lines:
                lines.append(line)
        return fields


def as_markdown(text: str, *, flat: bool = False) -> str:
    """Return reStructuredText as Markdown; `flat` puts it on one line."""
    text = text.strip("\n")
    if not flat:
        text = _blocks(_tables(text))
    parts = re.split(r"(^ *```.*?^ *```$)", text, flags=re.M | re.S)
    text = "".join(part if i % 2 else _inline(part) for i, part in enumerate(parts))
    return " ".join(text.split()) if flat else text


def _inline(text: str) -> str:
    text = re.sub(r":math:`([^`]+)`", lambda m: "$`" + " ".join(m[1].split()) + "`$", text)
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def _tables(text: str) -> str:
    """Turn simple tables, two columns between three rules, into tables."""
    return re.sub(r"^(=+) (=+)\n(.*?)^\1 \2$", _simple_table, text, flags=re.M | re.S)


def _simple_table(found: re.Match[str]) -> str:
    width = len(found[1]) + 1
    rows: list[list[str]] = []
    for line in found[3].rstrip("\n").split("\n"):
        if line[:width].strip():
            rows.append([f"`{line[:width].strip()}`", line[width:].strip()])
        else:
            rows[-1][1] += f" {line[width:].strip()}"
    return table(["name", "meaning"], rows)


def _blocks(text: str) -> str:
    """Turn directives and literal blocks into fences, where they stand."""
    out: list[str] = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        found = re.match(r"( *)\.\. math::\s*(.*)$", line)
        literal = line.endswith("::") and not found
        if not (found or literal):
            out.append(line)
            continue
        indent = len(line) - len(line.lstrip())
        inner: list[str] = []
        while at < len(lines) and (
            not lines[at].strip() or len(lines[at]) - len(lines[at].lstrip()) > indent
        ):
            inner.append(lines[at])
            at += 1
        code = textwrap.dedent("\n".join(inner)).strip("\n")
        language = "python" if literal else "math"
        if found:
            code = "\n".join(x for x in (found[2], code) if x.strip())
            code = "\n".join(part for part in code.split("\n") if part.strip())
        else:
            out.append(line[:-1] if line.strip() != "::" else "")
        fence = f"```{language}\n{code}\n```"
        out += ["", *textwrap.indent(fence, " " * indent).split("\n"), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out))


def cell(text: str) -> str:
    """Return text as it may stand in a cell of a table."""
    text = as_markdown(text, flat=True) if ".. math::" not in text else as_markdown(text)
    return " ".join(text.split()).replace("|", "\\|")


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; columns that are empty throughout are left out."""
    if not rows:
        return ""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    lines = [" | ".join(header[i] for i in kept), "|".join("---" for _ in kept)]
    lines += [" | ".join(row[i] for i in kept) for row in rows]
    return "\n".join([f"| {lines[0]} |", f"|{lines[1]}|", *(f"| {line} |" for line in lines[2:])])
