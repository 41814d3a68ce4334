"""Parts of the image encoders: how states become a row, and timm's models."""
