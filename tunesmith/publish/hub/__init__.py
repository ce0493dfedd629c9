"""Uploading an export: what must not leave this machine, the hashes, and the commits on the hub."""
