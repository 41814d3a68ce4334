"""The objectives as functions of logits or probabilities: no data, no modules, no state.

Shapes: B rows, K clusters, optional leading or middle head axes written ``...``; every function
returns one number a head (reduced over rows), so that several heads train in one call.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Under a logarithm: float32 keeps it apart from zero, and its gradient finite.
TINY = 1e-8


def entropy(p: Tensor) -> Tensor:
    """Return the entropy (nats) of distributions along the last axis."""
    return -(p * p.clamp_min(TINY).log()).sum(dim=-1)


def kl_to_prior(p: Tensor, prior: Tensor) -> Tensor:
    """Return KL(p || prior) along the last axis: minus the entropy plus log K if uniform."""
    return (p * (p.clamp_min(TINY).log() - prior.clamp_min(TINY).log())).sum(dim=-1)


def consistency(p: Tensor, q: Tensor) -> Tensor:
    """Return the SCAN consistency -mean_i log <p_i, q_i> (Van Gansbeke et al., ECCV 2020).

    Parameters
    ----------
    p, q : Tensor (B, ..., K)
        Probabilities of a row and of its neighbor.

    Returns
    -------
    Tensor (...)
        One value a head.
    """
    return -(p * q).sum(dim=-1).clamp_min(TINY).log().mean(dim=0)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy (...,) of each row's logits against soft targets."""
    return -(target * logits.log_softmax(dim=-1)).sum(dim=-1)


def smoothed_cross_entropy(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Return label-smoothed cross-entropy (B,) (Szegedy et al., CVPR 2016)."""
    return F.cross_entropy(logits, y, label_smoothing=smoothing, reduction="none")


def labeled_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy (...) of logits (l, ..., K) to classes (l,), one a head."""
    shape = logits.shape[:-1]
    y = y.view(-1, *[1] * (len(shape) - 1)).expand(shape)
    return F.cross_entropy(logits.movedim(-1, 1), y, reduction="none").mean(dim=0)


def focal(logits: Tensor, y: Tensor, gamma: float) -> Tensor:
    """Return the focal loss (B,): -(1 - p_y)^gamma log p_y (Lin et al., ICCV 2017)."""
    log_p = logits.log_softmax(dim=-1).gather(-1, y[:, None]).squeeze(-1)
    return -((1 - log_p.exp()) ** gamma) * log_p


def l1_norm(logits: Tensor) -> Tensor:
    """Return the mean absolute logit (B,): the penalty of Joo & Chung's L1-norm baseline."""
    return logits.abs().mean(dim=-1)


def pmi(student: Tensor, teacher: Tensor, teacher_marginal: Tensor, *, beta: float = 1.0) -> Tensor:
    r"""Return the pointwise mutual information of TEMI (Adaloglou et al., BMVC 2023).

    .. math:: PMI(x, x') = \log \sum_k (q_s(k|x) q_t(k|x'))^\beta / \bar q_t(k)

    Parameters
    ----------
    student, teacher : Tensor (B, H, K)
        Probabilities of one view by the student and of the other by the teacher.
    teacher_marginal : Tensor (H, K)
        Running mean of the teacher's output; replaced by a prior where sizes are not even.
    beta : float
        1 is the exact PMI; below it the push to even sizes is weaker.

    Returns
    -------
    Tensor (B, H)
    """
    joint = (student * teacher).clamp_min(TINY) ** beta
    return (joint / teacher_marginal.clamp_min(TINY)).sum(dim=-1).clamp_min(TINY).log()


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Return the normalized temperature-scaled cross-entropy of two views (Chen et al., 2020).

    Parameters
    ----------
    a, b : Tensor (B, d)
        Rows of one view each; made unit here. Row i of `a` and row i of `b` are a pair.
    temperature : float
        Divides the cosines.
    """
    return unit_nt_xent(F.normalize(a, dim=1), F.normalize(b, dim=1), temperature)


def unit_nt_xent(a: Tensor, b: Tensor, temperature: float, ignore: Tensor | None = None) -> Tensor:
    """Return NT-Xent of unit rows a, b (B, d) in which pairs of `ignore` (B, B) do not repel."""
    z = torch.cat([a, b])
    scores = z @ z.T / temperature
    n = len(a)
    hidden = torch.zeros(2 * n, 2 * n, dtype=torch.bool, device=z.device)
    if ignore is not None:
        hidden = ignore.repeat(2, 2)
        rows = torch.arange(n, device=z.device)
        hidden[rows, rows + n] = hidden[rows + n, rows] = False
    hidden.fill_diagonal_(True)
    other = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(z.device)
    return F.cross_entropy(scores.masked_fill(hidden, float("-inf")), other)
