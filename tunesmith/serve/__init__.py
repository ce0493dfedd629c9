"""The server: models behind OpenAI's API, one process, every reply from the scheduler of ``generate``."""
