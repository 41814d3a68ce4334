"""Progress bars: on the main process and a terminal's stderr only, silent everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from fmcluster.utils import distributed

T = TypeVar("T")
QUIET_VARIABLE = "FMCLUSTER_QUIET"


def enabled() -> bool:
    """Return whether a bar may be drawn."""
    return (
        sys.stderr is not None
        and sys.stderr.isatty()
        and not os.environ.get(QUIET_VARIABLE)
        and distributed.is_main()
    )


def bar(*, total: int | None, description: str, unit: str = "rows") -> Any:
    """Return a tqdm bar with rows/s and time left; call ``update(n)`` and ``close()``."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        disable=not enabled(),
        file=sys.stderr,
        dynamic_ncols=True,
    )


def track(
    items: Iterable[T], *, description: str, unit: str, total: int | None = None
) -> Iterator[T]:
    """Yield from `items` while drawing a bar."""
    with bar(total=total, description=description, unit=unit) as shown:
        for item in items:
            yield item
            shown.update(1)
