"""The exit code that a command line would have, without the end of the process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress


def exit_code_of(command: Callable[[], object]) -> int:
    """Run a command line here; an error is printed as Python prints it at its end, and is code 1."""
    code = 1
    try:
        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    with suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    return code
