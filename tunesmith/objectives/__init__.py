"""The losses of supervised fine-tuning, preference optimisation, reward models and PPO."""
