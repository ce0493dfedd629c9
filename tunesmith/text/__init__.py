"""Text: trees of messages, tokenizers, prompt formats, and the rendering of a tree as token ids with targets."""
