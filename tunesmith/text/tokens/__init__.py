"""Token trees: rendering of message trees, truncation to a length limit, rankings, and prompts for generation."""
