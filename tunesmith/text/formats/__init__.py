"""Prompt formats: how each message is split into what the model is given and what it must produce."""
