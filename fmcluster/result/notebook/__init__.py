"""A result where one writes code: tables, a map to draw on, and what a notebook shows of it."""
