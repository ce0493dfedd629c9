"""Recipes: their schema, how YAML files, layers and single values are loaded, and the catalog of built-in recipes."""
