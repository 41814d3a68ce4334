"""A budget of labels: which rows to label, what follows from labels, which are wrong."""
