r"""Some two hundred worlds: embed them once, run heads and peers on them, tell where each is weak.

    python benchmarks/worlds.py embed
    python benchmarks/worlds.py run --peers --half think --out benchmarks/results/worlds/peers.jsonl
    python benchmarks/worlds.py run --head auto --half think \
        --out benchmarks/results/worlds/auto.jsonl
    python benchmarks/worlds.py table benchmarks/results/worlds/{peers,auto}.jsonl

`run` adds one line of JSON for each world, method and seed, and goes on where it stopped. Worlds to
confirm with go to a file of their own, ``NAME-confirm.jsonl``, which nobody reads: `table --half
confirm --why "what is decided"` prints means and worst values without names, and counts the look in
``looks.md`` beside the results. What packages the sets come from: `_world_embed.py`.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from _world_methods import HEAD, PEERS, Runner, purity
from _world_oracles import ORACLES
from _world_tables import page
from _worlds import World, find, load, worlds

log = logging.getLogger("worlds")
RESULTS = Path(__file__).resolve().parent / "results" / "worlds"


def path_of(out: Path, half: str) -> Path:
    """Return the file of a half."""
    return out if half == "think" else out.with_name(f"{out.stem}-confirm{out.suffix}")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of results; none where it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


@lru_cache(maxsize=1)
def _runner() -> Runner:
    """Return the runner of this process."""
    return Runner()


def run_world(name: str, todo: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """Return the rows of a world: (method, label, seed) one after the other."""
    world = find(name)
    X, y, _ = load(world)
    about = {
        "world": world.name,
        "cut": world.cut,
        "set": world.set,
        "encoder": world.encoder,
        "kind": world.kind,
        "half": world.half,
        "n": len(y),
        "k": int(y.max()) + 1,
        "purity": purity(X, y),
    }
    rows = []
    for method, label, seed in todo:
        try:
            measured = _runner().row(method, X, y, seed)
        except Exception as error:  # a peer that fails on a world is a result, and is shown as one
            measured = {"error": f"{type(error).__name__}: {error}"[:300]}
        rows.append({**about, "method": label, "seed": seed, **measured})
    return rows


def methods_of(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Return (method, label) of everything asked for."""
    peers = [*(PEERS if options.peers == [] else options.peers or ())]
    peers += ["k-estimate"] if options.k_estimate else []
    peers += ORACLES if options.oracles else []
    specs = options.head or ([] if peers else ["auto"])
    if options.label and len(specs) != 1:
        raise SystemExit(f"--label {options.label} names one head, and there are {len(specs)}")
    heads = [(HEAD + s, options.label or (f"{s} head" if s in PEERS else s)) for s in specs]
    return [(peer, peer) for peer in peers] + heads


def is_there(world: World) -> bool:
    """Say whether a world is embedded."""
    try:
        load(world)
    except FileNotFoundError:
        return False
    return True


def run(options: argparse.Namespace) -> None:
    """Run methods on worlds and add the lines to the file of each half."""
    asked = [
        world
        for world in worlds(options.half)
        if not options.worlds or any(part in world.name for part in options.worlds)
    ]
    chosen = [world for world in asked if is_there(world)]
    if len(chosen) < len(asked):
        log.warning("%d worlds are not embedded yet: worlds.py embed", len(asked) - len(chosen))
    done = {
        (row["world"], row["method"], row["seed"])
        for half in ("think", "confirm")
        for row in read(path_of(options.out, half))
        if "error" not in row
    }
    tasks: list[tuple[str, list[tuple[str, str, int]]]] = []
    for world in sorted(chosen, key=lambda world: world.rows):
        todo = [
            (method, label, seed)
            for seed in range(options.seeds)
            for method, label in methods_of(options)
            if (world.name, label, seed) not in done
        ]
        if todo:
            tasks.append((world.name, todo))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for count, rows in enumerate(_results(tasks, options.jobs), 1):
        path = path_of(options.out, rows[0]["half"])
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        shown = [f"{row['method']} {row.get('acc', row.get('error', ''))}" for row in rows]
        hidden = rows[0]["half"] == "confirm"
        log.info("%d/%d %s", count, len(tasks), "" if hidden else [rows[0]["world"], *shown])


def _results(
    tasks: list[tuple[str, list[tuple[str, str, int]]]], jobs: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each task, from this process or from several."""
    if jobs == 1:
        yield from (run_world(*task) for task in tasks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_world, *zip(*tasks, strict=True)) if tasks else ()


def table(options: argparse.Namespace) -> None:
    """Print the tables of one half; a look at the confirming half is counted."""
    rows = [row for path in options.files for row in read(path_of(path, options.half))]
    if not rows:
        raise SystemExit(f"no results of the half {options.half!r} in {options.files}")
    if options.half == "confirm":
        if not options.why:
            raise SystemExit("a look at the confirming half is counted: say --why it is taken")
        looks = RESULTS / "looks.md"
        before = looks.read_text(encoding="utf-8") if looks.is_file() else "# Looks\n\n"
        count = before.count("\n- ") + 1
        files = ", ".join(path.name for path in options.files)
        looks.parent.mkdir(parents=True, exist_ok=True)
        looks.write_text(f"{before}- {count}. {files}: {options.why}\n", encoding="utf-8")
    print(page(rows, names=options.half == "think"))


def embed(options: argparse.Namespace) -> None:
    """Embed what the worlds need and is not there."""
    from _world_embed import embed as embed_set
    from _world_embed import prepare
    from _world_sets import READY

    needed = {(world.set, encoder) for world in worlds() for encoder in world.encoders}
    for name, encoder in sorted(needed):
        if encoder == "tfidf" or READY.get(name) == encoder:
            continue  # tfidf is fitted on the texts of each world, when it is loaded
        if not options.sets or name in options.sets:
            prepare(name)
            log.info("%s", embed_set(name, encoder))


def main() -> None:
    """Read the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("embed", help="embed the sets, once")
    command.add_argument("--sets", nargs="*", default=[])
    command.set_defaults(run=embed)
    command = commands.add_parser("run", help="run heads and peers")
    command.add_argument("--head", nargs="*", help="such as auto or scan:cluster_prior=estimate")
    command.add_argument("--peers", nargs="*", choices=PEERS, help="all, or those named")
    command.add_argument("--k-estimate", action="store_true", help="count clusters as well")
    command.add_argument("--oracles", action="store_true", help="the head told one thing each")
    command.add_argument("--label", help="the method's name in the results")
    command.add_argument("--half", choices=("think", "confirm"), help="both where not said")
    command.add_argument("--worlds", nargs="*", help="parts of the names of worlds")
    command.add_argument("--seeds", type=int, default=1)
    command.add_argument("--jobs", type=int, default=1)
    command.add_argument("--out", type=Path, default=RESULTS / "auto.jsonl")
    command.set_defaults(run=run)
    command = commands.add_parser("table", help="print the tables of results")
    command.add_argument("files", type=Path, nargs="+")
    command.add_argument("--half", choices=("think", "confirm"), default="think")
    command.add_argument("--why", help="what is decided by a look at the confirming half")
    command.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
