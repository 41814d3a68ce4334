"""The former name of `fmcluster.integrations`."""

from fmcluster.integrations import TopicClusterer, mteb_clustering

__all__ = ["TopicClusterer", "mteb_clustering"]
