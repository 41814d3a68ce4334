"""What every head that learns a representation promises, beside the contract of all heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from head_contract import accuracy, hold_to_contract

from fmcluster.heads import load_head, make_head


def hold_to_representation(name: str, data: Any, folder: Path, **params: Any) -> Any:
    """Assert the contract, and that `transform` gives rows that another head can cluster."""
    k = int(data.y.max()) + 1
    head = hold_to_contract(name, data.x, folder, n_clusters=k, **params)
    assert accuracy(head, data.y) > 0.97
    z = head.transform(data.x)
    assert z.shape[0] == len(data.x)
    assert z.dtype == np.float32
    np.testing.assert_allclose(head.transform(data.x[:5]), z[:5], atol=1e-5)
    np.testing.assert_allclose(load_head(folder / name).transform(data.x), z, atol=1e-5)
    assert accuracy(make_head("kmeans", n_clusters=k, random_state=0).fit(z), data.y) > 0.97
    assert np.isfinite([record["loss"] for record in head.history_]).all()
    return head
