"""Proofs on the user's own model and data before training, against computations that share no code with ours."""
