"""Training data: rows of files and hub datasets are read, turned into message trees, and stored as tokens."""
