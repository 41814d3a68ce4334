"""The default head: a vote of refined partitions of many families."""

from fmcluster.heads.auto.head import AutoHead

__all__ = ["AutoHead"]
