"""The commands, a file each: ``add_arguments(parser)``, ``run(args) -> dict``, ``render``.

A command's module is imported when the command is asked for, so that ``--help`` is fast.
"""

from __future__ import annotations

COMMANDS = {
    "demo": "real digit images, clustered and reported, without network",
    "embed": "turn raw images or texts into a store of embeddings",
    "cluster": "cluster raw data or embeddings, with calibrated confidence",
    "predict": "assign new data to the clusters of a saved result",
    "edit": "merge, split, rename, move or dissolve clusters of a saved result, or undo it",
    "update": "add new data to a saved result; old rows stay as they are",
    "drift": "compare new data with a saved result: cluster shares, rows unlike anything",
    "certify": "promise a share of right labels, as far as a random sample of labels allows",
    "estimate": "estimate the number of clusters and their sizes",
    "query": "choose which samples to label",
    "clean": "find wrong labels, near-duplicates and outliers",
    "report": "write the HTML report of a saved result again",
    "app": "a local page to look, search, label, edit, certify and save a result",
    "bench": "run, tabulate and compare benchmark suites",
    "run": "run a recipe",
    "heads": "list the cluster heads",
    "encoders": "list the encoders, their size and license, and whether weights are at hand",
    "doctor": "say what is installed and what is wrong with it",
}
