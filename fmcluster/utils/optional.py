"""Optional packages: imported where they are used, or named with the command that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from fmcluster.utils.errors import MissingExtraError


def require(module: str, *, extra: str, package: str | None = None) -> ModuleType:
    """Import an optional module or say which command installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{package or module} is not installed: run `pip install 'fmcluster[{extra}]'`"
        ) from error
