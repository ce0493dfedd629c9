"""The interface of the chat page: operations on conversations, and a stream of what changes in one."""
