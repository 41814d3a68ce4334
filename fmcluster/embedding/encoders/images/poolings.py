"""How the states of an image model become one row, family by family.

``cls`` is the CLS state, ``mean`` the mean of the patches' states (CLS, distillation and register
tokens left out), ``cls+mean`` both joined (2d values, with which DINOv2 is probed; arXiv
2304.07193), ``pooler`` the model's own pooled output, ``attention`` that output where it is an
attention pool, ``projection`` the row of the space that images share with texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmcluster.utils.validation import check_in

if TYPE_CHECKING:
    import torch

POOLINGS = ("cls", "mean", "cls+mean", "pooler", "attention", "projection")


@dataclass(frozen=True)
class Family:
    """What is known of a family's states.

    Attributes
    ----------
    default : str
        The pooling that its authors embed with.
    prefix : int
        Tokens before the patches, registers not counted; none means that there is no CLS state.
    attention : bool
        Whether its own pooled output is an attention pool.
    projection : bool
        Whether it has a projection into a space shared with texts.
    """

    default: str = "cls"
    prefix: int = 1
    attention: bool = False
    projection: bool = False


_SHARED = Family("projection", projection=True)
_ATTENTION = Family("pooler", prefix=0, attention=True)
_MAP = Family("pooler", prefix=0)  # a map or a grid of patches, its mean is the model's own
# By `model_type`; what is not here is taken for a ViT with a CLS state.
FAMILIES = {
    "dinov2": Family(),
    "dinov2_with_registers": Family(),
    "dinov3_vit": Family(),
    "dinov3_convnext": _MAP,
    "clip": _SHARED,
    "clip_vision_model": Family("pooler"),
    "metaclip_2": _SHARED,
    "metaclip_2_vision_model": Family("pooler"),
    "siglip": _ATTENTION,
    "siglip_vision_model": _ATTENTION,
    "siglip2": _ATTENTION,
    "siglip2_vision_model": _ATTENTION,
    "aimv2": Family("projection", prefix=0, attention=True, projection=True),
    # Without the head: see `default_pooling`.
    "aimv2_vision_model": _ATTENTION,
    "convnext": _MAP,
    "convnextv2": _MAP,
    "swin": _MAP,
    "swinv2": _MAP,
    "resnet": _MAP,
    "efficientnet": _MAP,
    "timm_wrapper": Family("pooler"),
    "vit": Family(),
    "vit_mae": Family(),
    "vit_msn": Family(),
    "deit": Family(prefix=2),
    "beit": Family(),
    "data2vec-vision": Family(),
    "ijepa": Family("mean", prefix=0),
}


def family_of(kind: str) -> Family:
    """Return what is known of a `model_type`."""
    return FAMILIES.get(kind, Family())


def choose_pooling(kind: str, config: dict[str, Any], asked: str | None) -> str:
    """Return the pooling that was asked, or the family's own; "attention" as "pooler".

    Raises
    ------
    ValueError
        No pooling, or one that the family does not have.
    """
    family = family_of(kind)
    # AIMv2's trunk alone comes in two formats, both without the attention pool.
    headless = (kind == "aimv2_vision_model" and not config.get("use_head", True)) or (
        kind == "aimv2" and "vision_config" not in config
    )
    if asked is None:
        return "mean" if headless else family.default
    takes = {
        "cls": family.prefix > 0,
        "cls+mean": family.prefix > 0,
        "pooler": not headless,
        "attention": family.attention and not headless,
        "projection": family.projection and not headless,
    }
    return check_pooling(asked, POOLINGS, takes, repr(kind))


def check_pooling(asked: str, known: Sequence[str], takes: Mapping[str, bool], owner: str) -> str:
    """Return the pooling that was asked, "attention" as "pooler"; `takes` says what is refused."""
    check_in(asked, known, "pooling")
    if not takes.get(asked, True):
        has = [name for name in known if takes.get(name, True)]
        raise ValueError(f"pooling={asked!r}: {owner} has {', '.join(has)}")
    return "pooler" if asked == "attention" else asked


def pooled_states(
    states: torch.Tensor, pooling: str, prefix: int, *, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return rows of the last states.

    Parameters
    ----------
    states : (b, n, d) or (b, d, h, w)
        Tokens, or a feature map.
    pooling : "cls", "mean" or "cls+mean"
    prefix : int
        Tokens before the patches, registers among them.
    mask : (b, n), optional
        Zero where a patch is padding.

    Returns
    -------
    (b, d), float32 but for "cls"; (b, 2d) for "cls+mean".
    """
    import torch

    if states.ndim == 4:
        return states.float().mean(dim=(2, 3))
    if pooling == "cls":
        return states[:, 0]
    patches = states[:, prefix:].float()
    if mask is None:
        mean = patches.mean(dim=1)
    else:
        weight = mask[..., None].float()
        mean = (patches * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    return mean if pooling == "mean" else torch.cat([states[:, 0].float(), mean], dim=1)
