"""``python -m fmcluster``: the same as the command ``fmcluster``."""

from __future__ import annotations

from fmcluster.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
