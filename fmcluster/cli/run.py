"""``fmcluster run``: a recipe, from the Hub or from local data, held against its paper."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fmcluster.cli import options

EXAMPLE = "fmcluster run stackoverflow --data stackoverflow.parquet --limit 2000 --out run/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipe", nargs="?", help="YAML file or name; without one, list them")
    parser.add_argument("--data", metavar="PATH", help="local data in place of the Hub's")
    parser.add_argument("--column", help="column of the local data with the texts or images")
    parser.add_argument("--labels-column", metavar="NAME", help="column with the true labels")
    parser.add_argument("--limit", type=int, metavar="N", help="a random sample of N rows")
    parser.add_argument(
        "--encoder", action="append", metavar="NAME", help="in place of the recipe's; repeat"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="of the encoder")
    parser.add_argument("--device", help="default: what accelerate gives")
    parser.add_argument("--cache-dir", help="where embeddings are kept")
    options.add_out(parser, "save the result and its report here")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Load, check, run, save; or list."""
    from fmcluster.bench import recipes

    if args.recipe is None:
        names = recipes.list_recipes()
        return {"recipes": [{"name": n, "title": recipes.load_recipe(n).title} for n in names]}
    if args.limit is not None and args.limit < 2:
        raise ValueError(f"--limit {args.limit}: give at least 2 rows")
    result, y, payload = recipes.run_recipe(
        recipes.load_recipe(args.recipe),
        data=args.data,
        column=args.column,
        labels_column=args.labels_column,
        limit=args.limit,
        encoder=args.encoder,
        cache_dir=args.cache_dir,
        batch_size=args.batch_size,
        device=args.device,
        random_state=args.seed,
    )
    if args.encoder:
        payload["encoder"] = args.encoder
    if args.out:
        out = Path(args.out)
        result.save(out, metrics=None if y is None else result.evaluate(y))
        page = result.report(out / "report.html", labels=y, title=payload["title"])
        payload |= {"out": str(out), "report": str(page)}
    return payload


def render(payload: dict[str, Any]) -> str:
    """Say what came out beside what was published."""
    if "recipes" in payload:
        width = max((len(each["name"]) for each in payload["recipes"]), default=0)
        return "\n".join(f"{r['name']:<{width}}  {r['title']}" for r in payload["recipes"])

    def line(numbers: dict[str, Any]) -> str:
        found = [f"{k} {v:.1f}" for k, v in numbers.items() if isinstance(v, (int, float))]
        return "  ".join(found) or "no number"

    lines = [
        payload["title"],
        f"{payload['rows']} rows in {payload['n_clusters']} clusters by {payload['head']}",
        f"measured   {line(payload['measured'])}",
        f"published  {line(payload['published'])}  ({payload['published']['paper']})",
    ]
    if payload["published_on"]:
        lines.append(f"published on: {payload['published_on']}")
    if not payload["comparable"]:
        lines.append("not comparable: other data, encoder or features than the published number's")
    if "report" in payload:
        lines.append(f"open {payload['report']}")
    return "\n".join(lines)
