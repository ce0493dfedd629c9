"""Reports for people: the results of `tunesmith check` and the comparison of models."""
