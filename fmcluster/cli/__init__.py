"""The command line: one command a file, found by `registry`, run by `main`."""

from fmcluster.cli.main import main

__all__ = ["main"]
