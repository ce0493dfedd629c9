"""What the code of a family may raise when it is called in a way that it does not support."""

from __future__ import annotations

FAMILY_ERRORS: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError, NameError, ArithmeticError),
    ImportError,
)
"""A family that raises one of these is refused with its message as the reason, or used in another way."""


def describe_failure(error: Exception) -> str:
    """The message of an error on one line of at most 200 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
