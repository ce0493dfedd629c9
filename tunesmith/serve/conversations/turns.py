"""The messages of a thread as a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunesmith.serve.conversations.records import StoredMessage


def joined_turns(thread: Sequence[StoredMessage]) -> list[StoredMessage]:
    """The messages without empty replies; two of the user that then follow each other become one."""
    found = list[StoredMessage]()
    for message in thread:
        if found and message.role == found[-1].role == "user":
            text, context = f"{found[-1].text}\n\n{message.text}", message.context or found[-1].context
            found[-1] = replace(found[-1], text=text, context=context)
        elif message.text:
            found.append(message)
    return found
