"""What text encoders are made of: options, batches, chunks; static ones and other libraries'."""
