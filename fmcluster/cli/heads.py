"""``fmcluster heads``: the cluster heads and what each is."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLE = "fmcluster heads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Name every head with the first line of its documentation."""
    from fmcluster.heads import head_class, list_heads

    heads = []
    for name in list_heads():
        cls = head_class(name)
        heads.append(
            {
                "name": name,
                "about": (cls.__doc__ or "").strip().split("\n")[0],
                "cluster_prior": "cluster_prior" in cls().get_params(deep=False),
            }
        )
    return {"heads": heads}


def render(payload: dict[str, Any]) -> str:
    """Print one head a line."""
    width = max(len(head["name"]) for head in payload["heads"])
    return "\n".join(f"{head['name']:<{width}}  {head['about']}" for head in payload["heads"])
