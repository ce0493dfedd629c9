"""The routes of the chat page below ``/api``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from tunesmith import __version__
from tunesmith.errors import DataError, LockedError, MissingInputError, StorageError, TunesmithError, UsageError
from tunesmith.serve.chat.events import conversation_events, conversation_values, message_values
from tunesmith.serve.chat.prompts import presets, token_view
from tunesmith.serve.chat.schemas import (
    ChangeSchema,
    CommentSchema,
    ContinueSchema,
    EditSchema,
    ImportSchema,
    NewConversationSchema,
    NothingSchema,
    RetrySchema,
    SendSchema,
    VoteSchema,
)
from tunesmith.serve.chat.service import ChatService
from tunesmith.serve.conversations.database import DamagedDatabaseError
from tunesmith.serve.conversations.records import ConversationTree
from tunesmith.serve.conversations.store import ListedConversation
from tunesmith.serve.conversations.transfer import TransferFormat, export_conversations, import_conversations
from tunesmith.serve.engine.clients import JobClient, client_of
from tunesmith.serve.log_entry import Log, LogEntry
from tunesmith.serve.refusals import RefusedRequest, invalid

Method = Literal["GET", "POST", "PATCH", "DELETE"]
BodyReader = Callable[[Request, type[Any]], Awaitable[Any]]
"""Reads the body of a request as the object of a schema. Raises RefusedRequest."""
Handler = Callable[[ChatService, Request, Any], Awaitable[Any]]

STATUS: dict[type[TunesmithError], int] = {
    MissingInputError: 404,
    UsageError: 400,
    DataError: 400,
    LockedError: 409,
    DamagedDatabaseError: 500,
    StorageError: 507,
}
LONGEST_QUERY = 200
MOST_LISTED = 500
MEDIA_TYPES: dict[TransferFormat, str] = {
    "jsonl": "application/x-ndjson",
    "oasst": "application/x-ndjson",
    "markdown": "text/markdown",
}
NO_STORE = {"Cache-Control": "no-store"}


@contextmanager
def refusals(log: Log) -> Iterator[None]:
    """Errors of Tunesmith as refused requests, without paths. log: gets those that are not the user's."""
    try:
        yield
    except TunesmithError as error:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        if status >= 500:
            log(LogEntry(str(error), "error"))
        advice = f"; {error.advice}" if error.advice else ""
        raise RefusedRequest(status, f"{error.what[:1].upper()}{error.what[1:]}{advice}.") from error


async def _state(service: ChatService, request: Request, body: None) -> dict[str, Any]:
    return {"version": __version__, "models": await service.models.describe(), "presets": presets()}


async def _listed(service: ChatService, request: Request, body: None) -> dict[str, Any]:
    query = request.query_params.get("query", "")
    if len(query) > LONGEST_QUERY:
        raise invalid("query", f"A search has at most {LONGEST_QUERY} characters.")
    found = await asyncio.to_thread(service.store.listed, query, MOST_LISTED + 1)
    writing = {live.message.id for live in service.feeds.live()}
    homes = {await asyncio.to_thread(service.store.conversation_of, name) for name in writing}
    listed = [_listed_values(each, each.conversation.id in homes) for each in found[:MOST_LISTED]]
    return {"conversations": listed, "more": len(found) > MOST_LISTED}


async def _create(service: ChatService, request: Request, body: NewConversationSchema) -> dict[str, Any]:
    made = await asyncio.to_thread(lambda: service.store.create(identity=body.id, system=body.system))
    return conversation_values(ConversationTree(made, ()))


async def _tree(service: ChatService, request: Request, body: None) -> dict[str, Any]:
    home = _id(request)
    return conversation_values(await asyncio.to_thread(service.store.tree, home), service.feeds.of(home))


async def _update(service: ChatService, request: Request, body: ChangeSchema) -> dict[str, Any]:
    home = _id(request)
    await asyncio.to_thread(
        lambda: service.store.update(home, title=body.title, system=body.system, feedback=body.feedback)
    )
    service.feeds.of(home).touch(whole=True)
    return {}


async def _delete(service: ChatService, request: Request, body: None) -> dict[str, Any]:
    await service.delete(_id(request))
    return {}


async def _send(service: ChatService, request: Request, body: SendSchema) -> dict[str, Any]:
    added = await service.send(_id(request), body, _client(request))
    return {"messages": [message_values(message) for message in added]}


async def _events(service: ChatService, request: Request, body: None) -> Response:
    home = _id(request)
    await asyncio.to_thread(service.store.conversation, home)
    after = request.query_params.get("after") or request.headers.get("last-event-id", "")
    events: AsyncIterator[str] = conversation_events(service, home, after)
    return StreamingResponse(events, media_type="text/event-stream", headers=NO_STORE)


async def _export(service: ChatService, request: Request, body: None) -> Response:
    format = request.query_params.get("format", "jsonl")
    if format not in MEDIA_TYPES:
        raise invalid("format", f"The format must be one of {', '.join(get_args(TransferFormat))}.")
    only = request.query_params.get("conversation")

    def lines() -> str:
        trees = iter([service.store.tree(only)]) if only else service.store.trees()
        return "".join(f"{line}\n" for line in export_conversations(trees, format))

    text = await asyncio.to_thread(lines)
    return Response(text, media_type=MEDIA_TYPES[format], headers=NO_STORE)


async def _import(service: ChatService, request: Request, body: ImportSchema) -> dict[str, Any]:
    def add_all() -> list[bool]:
        return [service.store.import_tree(tree) for tree in import_conversations(body.text, body.name)]

    added = await asyncio.to_thread(add_all)
    return {"added": added.count(True), "known": added.count(False)}


async def _retry(service: ChatService, request: Request, body: RetrySchema) -> dict[str, Any]:
    added = await service.retry(_id(request), body.answers, _client(request))
    return {"messages": [message_values(message) for message in added]}


async def _continue(service: ChatService, request: Request, body: ContinueSchema) -> dict[str, Any]:
    await service.continue_reply(_id(request), body.sampling, _client(request))
    return {}


async def _stop(service: ChatService, request: Request, body: NothingSchema) -> dict[str, Any]:
    await service.stop(_id(request))
    return {}


async def _edit(service: ChatService, request: Request, body: EditSchema) -> dict[str, Any]:
    made = await service.change(
        _id(request), lambda name: service.store.edit_reply(name, body.text, body.id), whole=True
    )
    return {"messages": [message_values(made)]}


async def _show(service: ChatService, request: Request, body: NothingSchema) -> dict[str, Any]:
    await service.change(_id(request), service.store.show, whole=True)
    return {}


async def _choose(service: ChatService, request: Request, body: NothingSchema) -> dict[str, Any]:
    await service.change(_id(request), service.store.choose, whole=True)
    return {}


async def _vote(service: ChatService, request: Request, body: VoteSchema) -> dict[str, Any]:
    await service.change(_id(request), lambda name: service.store.vote(name, body.vote))
    return {}


async def _comment(service: ChatService, request: Request, body: CommentSchema) -> dict[str, Any]:
    await service.change(_id(request), lambda name: service.store.comment(name, body.text))
    return {}


async def _delete_message(service: ChatService, request: Request, body: None) -> dict[str, Any]:
    await service.delete_message(_id(request))
    return {}


async def _prompt(service: ChatService, request: Request, body: None) -> dict[str, Any]:
    model, prompt = await service.prompt(_id(request))
    return await asyncio.to_thread(token_view, model.engine, prompt)


ROUTES: tuple[tuple[Method, str, type[BaseModel] | None, Handler], ...] = (
    ("GET", "/api/state", None, _state),
    ("GET", "/api/conversations", None, _listed),
    ("POST", "/api/conversations", NewConversationSchema, _create),
    ("GET", "/api/conversations/{id}", None, _tree),
    ("PATCH", "/api/conversations/{id}", ChangeSchema, _update),
    ("DELETE", "/api/conversations/{id}", None, _delete),
    ("POST", "/api/conversations/{id}/send", SendSchema, _send),
    ("GET", "/api/conversations/{id}/events", None, _events),
    ("GET", "/api/export", None, _export),
    ("POST", "/api/import", ImportSchema, _import),
    ("DELETE", "/api/messages/{id}", None, _delete_message),
    ("GET", "/api/messages/{id}/prompt", None, _prompt),
    ("POST", "/api/messages/{id}/retry", RetrySchema, _retry),
    ("POST", "/api/messages/{id}/continue", ContinueSchema, _continue),
    ("POST", "/api/messages/{id}/stop", NothingSchema, _stop),
    ("POST", "/api/messages/{id}/edit", EditSchema, _edit),
    ("POST", "/api/messages/{id}/show", NothingSchema, _show),
    ("POST", "/api/messages/{id}/choose", NothingSchema, _choose),
    ("POST", "/api/messages/{id}/vote", VoteSchema, _vote),
    ("POST", "/api/messages/{id}/comment", CommentSchema, _comment),
)
"""Method, path, body and handler of every operation."""


def chat_router(service: ChatService, read: BodyReader) -> APIRouter:
    """The routes of a service. read: reads bodies within the limits of the server."""
    router = APIRouter(include_in_schema=False)
    for method, path, schema, handler in ROUTES:
        router.add_api_route(path, _endpoint(service, read, schema, handler), methods=[method], response_model=None)
    return router


def _endpoint(
    service: ChatService, read: BodyReader, schema: type[BaseModel] | None, handler: Handler
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        with refusals(service.log):
            body = await read(request, schema) if schema is not None else None
            found = await handler(service, request, body)
        return found if isinstance(found, Response) else JSONResponse(found, headers=NO_STORE)

    return endpoint


def _listed_values(listed: ListedConversation, writing: bool) -> dict[str, Any]:
    conversation = listed.conversation
    return {
        **{name: getattr(conversation, name) for name in ("id", "title", "feedback", "created", "changed")},
        **{"messages": listed.messages, "snippet": listed.snippet, "writing": writing},
    }


def _client(request: Request) -> JobClient:
    """Whom a reply is for: the page and the programs of one address take turns."""
    return client_of(request, "chat page")


def _id(request: Request) -> str:
    return str(request.path_params["id"])
