"""Stock transformers models: loading, attention of packed trees, and the policies that objectives and loop use."""
