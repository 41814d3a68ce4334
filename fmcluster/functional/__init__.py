"""Pure mathematics on arrays and tensors: no files, no data sets, no Accelerate."""
