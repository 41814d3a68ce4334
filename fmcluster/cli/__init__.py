"""The command line: one file per command, found by `registry`, run by `main`."""

from fmcluster.cli.main import main

__all__ = ["main"]
