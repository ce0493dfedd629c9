"""The server: a chat page, APIs for programs, and the conversations that people have there; one process."""
