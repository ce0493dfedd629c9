"""The models of a run: the policy and its family, the reference, reward models and sources of rewards."""
