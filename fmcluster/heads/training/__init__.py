"""What every trained head shares: the loop, its data, views, prior and checkpoints."""
