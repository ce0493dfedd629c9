"""Training: the loop over optimizer steps, optimizers, sources of steps, and the directory of a run."""
