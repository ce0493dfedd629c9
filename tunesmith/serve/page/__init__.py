"""The pages of the server: the chat, and the list of runs; their files are package data."""
