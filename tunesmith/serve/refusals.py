"""Why a request is not answered, in the form of OpenAI's errors."""

from __future__ import annotations

from typing import Any


class RefusedRequest(Exception):
    """A request that is not answered. What the client reads has no path, no traceback and no text of other requests.

    status: the HTTP status.
    message: one sentence about what is wrong.
    param: the field of the request that is wrong; None where it is none of them.
    code: a word for programs.
    retry_after: seconds after which the request may be sent again; None where that changes nothing.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """The ``type`` of the error in OpenAI's words."""
        if self.status in (401, 403, 421):
            return "authentication_error" if self.status == 401 else "permission_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def as_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(param: str | None, message: str, code: str = "invalid_value") -> RefusedRequest:
    """A request with a field that cannot be used."""
    return RefusedRequest(400, message, param=param, code=code)


def failed() -> RefusedRequest:
    """An error that is not the client's; the operator's log says more."""
    return RefusedRequest(500, "The server failed to answer this request.", code="internal_error")


def timed_out() -> RefusedRequest:
    """An answer takes longer than any may take."""
    return RefusedRequest(504, "The answer took too long. Ask for less in one request.", code="timeout")


def closed_model() -> RefusedRequest:
    """The model was closed after the request had come, because others are used."""
    what = "The model was closed, because others were opened. Open it again on the chat page."
    return RefusedRequest(503, what, param="model", code="model_closed", retry_after=1)


def stopping() -> RefusedRequest:
    """The server is about to end."""
    return RefusedRequest(503, "The server is shutting down.", code="server_shutting_down", retry_after=5)
