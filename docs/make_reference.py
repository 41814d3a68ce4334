"""Write docs/reference.md from the docstrings: ``python docs/make_reference.py``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import fmcluster
from fmcluster.cli.registry import COMMANDS
from fmcluster.heads import list_heads, make_head

TARGET = Path(__file__).parent / "reference.md"


def signature(value: object) -> str:
    """Return the call without type names."""
    parameters = inspect.signature(value).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    text = str(inspect.Signature(bare))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def entry(name: str, value: object) -> str:
    """Return one name: its call and its docstring, as preformatted text."""
    doc = inspect.getdoc(value) or ""
    first, _, rest = doc.partition("\n")
    rest = rest.strip("\n")
    body = f"\n\n```text\n{rest}\n```" if rest else ""
    return f"## {name}\n\n`{name}{signature(value)}`\n\n{first}{body}\n"


def build() -> str:
    """Return the whole page."""
    names = [name for name in fmcluster.__all__ if name != "__version__"]
    parts = [
        "# Reference\n\nMade from the docstrings by `python docs/make_reference.py`.\n",
        "# The package\n",
        *(entry(name, getattr(fmcluster, name)) for name in names),
        "# Heads\n\nAll have `fit`, `predict`, `predict_proba` and `save_pretrained`.\n",
    ]
    for name in list_heads():
        head = type(make_head(name))
        first = (inspect.getdoc(head) or "").split("\n")[0]
        parts.append(f"## {name}\n\n`{head.__name__}{signature(head)}`\n\n{first}\n")
    rows = "\n".join(f"| `fmcluster {name}` | {about} |" for name, about in COMMANDS.items())
    parts.append(f"# Commands\n\n| command | what |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(build(), encoding="utf-8")
