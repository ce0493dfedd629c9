"""Generation: sampling, batched decoding with a key-value cache, and opening exported models."""
