"""The demo: generates a small world of facts and texts and trains small models on it, offline and in minutes."""
