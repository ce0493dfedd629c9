"""A recipe for some data and a model: what is measured of both, the values that follow, and the file."""
