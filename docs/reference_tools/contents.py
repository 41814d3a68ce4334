"""Links to the headings of a page."""

from __future__ import annotations

import re
from collections.abc import Iterator


def anchors(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield level, text and link target of each heading, as GitHub makes them."""
    seen: dict[str, int] = {}
    prose = re.sub(r"^ *```.*?^ *```$", "", page, flags=re.M | re.S)
    for marks, heading in re.findall(r"^(#+) (.*)$", prose, re.M):
        target = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        seen[target] = seen.get(target, -1) + 1
        yield marks, heading, f"{target}-{seen[target]}" if seen[target] else target


def contents(page: str) -> str:
    """Return links to the chapters and their entries."""
    lines: list[str] = []
    for marks, heading, target in anchors(page):
        link = f"[{heading}](#{target})"
        if marks == "##":
            lines.append(f"- {link}")
        elif marks == "###":
            lines[-1] += f"{' · ' if ': [' in lines[-1] else ': '}{link}"
    return "\n".join(lines)
