"""Reading rows of any kind: files, frames, datasets, lists."""
