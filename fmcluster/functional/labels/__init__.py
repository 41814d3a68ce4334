"""What a few labels say of all rows."""
