"""Verifies, repeats and compares runs by what their files record."""
