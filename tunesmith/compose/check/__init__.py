"""`tunesmith check`: every check of a recipe, its data, tokenizer and model before training."""
