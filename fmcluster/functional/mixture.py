r"""Expectation maximization of Gaussians with one covariance, in blocks, on any device.

.. math:: \max_{\pi, \mu, \Sigma} \sum_i \log \sum_k \pi_k\, N(x_i; \mu_k, \Sigma)

The steps and the end are scikit-learn's (`GaussianMixture(covariance_type="tied")`): rounds end
where the mean log-likelihood changes by less than 1e-3. All in float64: covariances of principal
components span many orders of magnitude.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

# Densities that are on the device at a time: half a gigabyte.
BLOCK_VALUES = 2**26
# scikit-learn's: change of the mean log-likelihood at which rounds end.
TOLERANCE = 1e-3


class TiedMixture(NamedTuple):
    """A fitted mixture, and the rounds that it took."""

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariance: NDArray[np.float64]
    precision_cholesky: NDArray[np.float64]
    n_iter: int


@torch.no_grad()
def fit_tied(
    z: NDArray[np.float64],
    means: NDArray[np.float64],
    weights: NDArray[np.float64],
    precision: NDArray[np.float64],
    *,
    max_iter: int,
    reg_covar: float,
    device: torch.device,
) -> TiedMixture:
    """Return the mixture that the rounds end at.

    Parameters
    ----------
    z : (n, d) float64
        Rows.
    means, weights, precision : (k, d), (k,), (d, d) float64
        Where the rounds begin; the precision is the inverse covariance.
    max_iter : int
        Rounds at most.
    reg_covar : float
        Added to the diagonal of the covariance.
    device : torch.device
        Where the rounds are made; it must know float64.
    """
    x = torch.from_numpy(np.ascontiguousarray(z, np.float64)).to(device)
    mu, share = (torch.from_numpy(np.array(one, np.float64)).to(device) for one in (means, weights))
    root = torch.linalg.cholesky(torch.from_numpy(np.array(precision, np.float64)).to(device))
    blocks = x.split(max(1, BLOCK_VALUES // len(mu)))
    moment = x.T @ x
    ridge = reg_covar * torch.eye(x.shape[1], dtype=x.dtype, device=device)
    covariance, before, taken = moment, -math.inf, 0
    while taken < max_iter:
        taken += 1
        counts, sums, bound = torch.zeros_like(share), torch.zeros_like(mu), 0.0
        for block in blocks:
            logs = _log_joint(block, mu, share, root)
            total = logs.logsumexp(dim=1, keepdim=True)
            bound = bound + total.sum()
            logs.sub_(total).exp_()
            counts += logs.sum(dim=0)
            sums += logs.T @ block
        # As scikit-learn does: no division by an empty component.
        counts += 10 * torch.finfo(torch.float64).eps
        mu = sums / counts[:, None]
        covariance = (moment - (mu * counts[:, None]).T @ mu) / counts.sum() + ridge
        share = counts / counts.sum()
        # The transpose of the inverse of the covariance's factor: of the precision a root, too.
        factor = torch.linalg.cholesky(covariance)
        eye = torch.eye(len(factor), dtype=x.dtype, device=device)
        root = torch.linalg.solve_triangular(factor, eye, upper=False).T
        mean = float(bound) / len(x)
        if abs(mean - before) < TOLERANCE:
            break
        before = mean
    weights_, means_, spread, cholesky = (
        one.cpu().numpy() for one in (share, mu, covariance, root)
    )
    return TiedMixture(weights_, means_, spread, cholesky, taken)


def _log_joint(
    block: torch.Tensor, mu: torch.Tensor, share: torch.Tensor, root: torch.Tensor
) -> torch.Tensor:
    """Return log pi_k N(x; mu_k, Sigma) (m, k), by one projection of the rows."""
    y, centers = block @ root, mu @ root
    square = y.square().sum(dim=1)[:, None] - 2 * (y @ centers.T) + centers.square().sum(dim=1)
    square += block.shape[1] * math.log(2 * math.pi)
    return -0.5 * square + root.diagonal().log().sum() + share.log()
