"""The directory of a run: metrics, checkpoints, the choice of the best one, and the callbacks that write them."""
