"""Readers: one function for each row format that turns a row into a tree of messages."""
