"""The two kinds of batches, packed and padded, and the protocols between model, objective and training loop."""
