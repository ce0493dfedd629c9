"""Tokenizers: text to token ids and back, such that text never becomes a control token."""
