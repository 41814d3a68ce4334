"""Edits of a clustering as steps: what they do to probabilities, how they are kept and repeated."""
