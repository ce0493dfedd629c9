"""The application: its parts, and the routes of the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from tunesmith.serve.app.counters import RequestCounters, write_metrics
from tunesmith.serve.app.exchange import AsciiJson, LiveAnswer, RefusalAnswer, read_request
from tunesmith.serve.app.gate import AsgiApp, Gate
from tunesmith.serve.app.schema import describe_operation, write_schema
from tunesmith.serve.app.settings import ServerSettings
from tunesmith.serve.engine.clients import client_of
from tunesmith.serve.engine.models import ServedModel, ServedModels
from tunesmith.serve.log_entry import Log
from tunesmith.serve.openai.chat import open_chat
from tunesmith.serve.openai.completions import open_completion
from tunesmith.serve.openai.request_schemas import ChatRequestSchema, CompletionRequestSchema, ResponseRequestSchema
from tunesmith.serve.openai.responses import open_response
from tunesmith.serve.openai.token_texts import TokenTexts
from tunesmith.serve.refusals import RefusedRequest, failed


class ServerParts:
    """What the routes share.

    models: those that are served.
    settings: of the server.
    log: gets what the operator reads.
    counters: of requests.
    texts: the tokens of every model as text, by its name.
    stopping: whether a signal has come.
    closers: what is called when the accepted replies have ended, or were given up.
    """

    def __init__(self, models: ServedModels, settings: ServerSettings, log: Log) -> None:
        self.models, self.settings, self.log = models, settings, log
        self.counters = RequestCounters()
        self.texts: dict[str, TokenTexts] = {}
        self.stopping = False
        self.closers: list[Callable[[], Awaitable[None]]] = []
        for model in models:
            self.add(model)

    def add(self, model: ServedModel) -> None:
        """Serve a model whose thread was started."""
        self.models.add(model)
        self.texts[model.name] = TokenTexts(model.engine.renderer.tokenizer)

    def remove(self, model: ServedModel) -> None:
        """Serve a model no longer; whoever calls it ends the thread."""
        self.models.remove(model.name)
        del self.texts[model.name]


def build_app(parts: ServerParts, routers: Sequence[APIRouter] = ()) -> AsgiApp:
    """The application with its gate.

    routers: further routes, such as those of the chat page.
    """
    app = FastAPI(title="Tunesmith", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for router in (operation_routes(parts), api_routes(parts), *routers):
        app.include_router(router)
    if parts.settings.docs:
        app.add_api_route("/openapi.json", lambda: AsciiJson(_schema(app, parts)), include_in_schema=False)
    app.add_exception_handler(HTTPException, _refuse_route)
    app.add_exception_handler(RefusedRequest, _refuse)
    app.add_exception_handler(Exception, _refuse)
    return Gate(app, parts.settings, parts.counters, parts.log)


def _schema(app: FastAPI, parts: ServerParts) -> dict[str, Any]:
    return write_schema(app, [model.name for model in parts.models])


def operation_routes(parts: ServerParts) -> APIRouter:
    """Health and metrics."""
    router = APIRouter()

    @router.get("/healthz", responses={503: {"description": "Not ready."}})
    async def health() -> Response:
        ready = not parts.stopping and all(model.thread.is_ready for model in parts.models)
        return AsciiJson({"status": "ok" if ready else "unavailable"}, 200 if ready else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        text = write_metrics(parts.counters, parts.models)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return router


def api_routes(parts: ServerParts) -> APIRouter:
    """OpenAI's API."""
    router, limits = APIRouter(prefix="/v1"), parts.settings.limits

    @router.get("/models")
    async def list_models() -> Response:
        return AsciiJson({"object": "list", "data": [_describe(model) for model in parts.models]})

    @router.get("/models/{model:path}")  # the name of a run has slashes
    async def retrieve_model(model: str) -> Response:
        if not model:
            raise HTTPException(404)
        return AsciiJson(_describe(parts.models.find(model)))

    @router.post("/chat/completions", openapi_extra=describe_operation(ChatRequestSchema))
    async def chat(request: Request) -> Response:
        wanted = await read_request(request, ChatRequestSchema, limits)
        answer = await open_chat(parts.models, parts.texts, wanted, client_of(request, wanted.user))
        return LiveAnswer(answer, parts.log, limits.total_time)

    @router.post("/completions", openapi_extra=describe_operation(CompletionRequestSchema))
    async def complete(request: Request) -> Response:
        wanted = await read_request(request, CompletionRequestSchema, limits)
        answer = await open_completion(parts.models, parts.texts, wanted, client_of(request, wanted.user))
        return LiveAnswer(answer, parts.log, limits.total_time)

    @router.post("/responses", openapi_extra=describe_operation(ResponseRequestSchema))
    async def respond(request: Request) -> Response:
        wanted = await read_request(request, ResponseRequestSchema, limits)
        answer = await open_response(parts.models, wanted, client_of(request, wanted.user))
        return LiveAnswer(answer, parts.log, limits.total_time, named=True)

    return router


def _describe(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "tunesmith"}


async def _refuse(request: Request, error: Exception) -> Response:
    """The answer to a request that is refused; any other error is the server's, and the gate logs it."""
    return RefusalAnswer(error if isinstance(error, RefusedRequest) else failed())


async def _refuse_route(request: Request, error: Exception) -> Response:
    """An error of the router in the form of the API."""
    assert isinstance(error, HTTPException)
    what = {404: "There is nothing at this URL.", 405: "This URL does not have this method."}
    words = {404: "not_found", 405: "method_not_allowed"}
    refused = RefusedRequest(
        error.status_code,
        what.get(error.status_code, "The request cannot be answered."),
        code=words.get(error.status_code),
    )
    return AsciiJson(refused.as_dict(), error.status_code, headers=error.headers)
