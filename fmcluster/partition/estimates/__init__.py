"""What is estimated without labels: how many clusters, and how large."""
