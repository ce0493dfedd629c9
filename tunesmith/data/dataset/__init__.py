"""Tokenized datasets: rendering, duplicates, the cached store, the split and the order of training."""
