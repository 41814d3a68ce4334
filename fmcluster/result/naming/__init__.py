"""Names for clusters: by telling terms of their texts, by a namer, by a vocabulary for images.

`phrases` finds the terms, `terms` weighs them, `names` gives them; `hook` is what a namer of one's
own is, `chat` the one that asks a language model.
"""

from fmcluster.result.naming.chat import ChatNamer
from fmcluster.result.naming.hook import Named, Namer
from fmcluster.result.naming.names import (
    name_by_source,
    name_by_terms,
    name_clusters,
    source_names,
    with_names,
)
from fmcluster.result.naming.vocabulary import name_by_vocabulary

__all__ = [
    "ChatNamer",
    "Named",
    "Namer",
    "name_by_source",
    "name_by_terms",
    "name_by_vocabulary",
    "name_clusters",
    "source_names",
    "with_names",
]
