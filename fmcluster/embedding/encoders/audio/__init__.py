"""Encoders of recordings: resampled, cut into windows, one vector a row."""
