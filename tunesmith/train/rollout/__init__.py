"""Rollouts for PPO: sampled replies, their rewards and advantages, and the steps that train on them."""
