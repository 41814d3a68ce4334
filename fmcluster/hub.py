"""Where model cards say `from_pretrained` is: `fmcluster.result.hub`."""

from fmcluster.result.hub import from_pretrained, push_to_hub, save_pretrained
from fmcluster.result.predictor import ClusterPipeline

__all__ = ["ClusterPipeline", "from_pretrained", "push_to_hub", "save_pretrained"]
