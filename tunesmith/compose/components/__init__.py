"""The components of a run, built from the sections of its recipe: data, tokenizer, steps and optimizer."""
