"""Everything that a person can do on the chat page, and the writing of replies.

A reply belongs to its conversation, not to a connection: it goes on when the page is reloaded or closed, and every tab
sees it. What a method has returned is on the disk.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from tunesmith.errors import TunesmithError, UsageError
from tunesmith.generate.reply_text import PlainReader
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.serve.chat.feeds import ConversationFeed, Feeds, LiveReply
from tunesmith.serve.chat.models import ChatModels
from tunesmith.serve.chat.prompts import (
    ThreadPrompt,
    chosen_sampling,
    settings_of,
    storable,
    thread_prompt,
)
from tunesmith.serve.chat.schemas import REPLIES, AnswersSchema, SamplingChoiceSchema, SendSchema
from tunesmith.serve.conversations.records import StoredMessage, new_id, now
from tunesmith.serve.conversations.store import ConversationStore
from tunesmith.serve.engine.clients import JobClient
from tunesmith.serve.engine.jobs import ReplyJob
from tunesmith.serve.engine.models import ServedModel
from tunesmith.serve.log_entry import Log, LogEntry, failure_entry
from tunesmith.serve.refusals import RefusedRequest, stopping

SAVED_EVERY = 1.0
"""Seconds between two writes of an unfinished reply."""

TRIED_EVERY = 2.0
"""Seconds between two attempts to write the end of a reply."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Writing:
    """What is needed to write a reply.

    home: the conversation.
    thread: the messages before the reply.
    choice: the settings of the user.
    client: who asked for it, in the queues of the models.
    begun: the text that is continued; empty for a new reply.
    """

    home: str
    thread: tuple[StoredMessage, ...]
    choice: SamplingChoiceSchema
    client: JobClient
    begun: str = ""


class ChatService:
    """The operations of the chat page. All methods are called in one asyncio loop.

    store: the conversations.
    models: what replies.
    log: gets the errors that are not the user's.
    """

    def __init__(self, store: ConversationStore, models: ChatModels, log: Log) -> None:
        self.store, self.models, self.feeds = store, models, Feeds()
        self.log, self._ending = log, asyncio.Event()
        self._beginning = asyncio.Lock()  # held from the look at what is there until a reply has begun

    async def send(self, home: str, request: SendSchema, client: JobClient) -> list[StoredMessage]:
        """Store a message of the user and begin the replies to it. Returns all of them.

        The same request may be sent again after a lost connection: what is stored already stays, and replies are begun
        only once. Raises RefusedRequest and errors of the store.
        """
        return await _completed(self._send(home, request, client))

    async def _send(self, home: str, request: SendSchema, client: JobClient) -> list[StoredMessage]:
        message = StoredMessage(
            request.id, request.parent, "user", request.text, created=now(), context=request.context
        )
        async with self._beginning_replies():
            tree = await self._stored(self.store.tree, home)
            if request.answers is None or any(each.id == request.id for each in tree.messages):
                return await self._add(home, [message])
            replies = await self._new_replies(tree.conversation.system, message.id, request.answers)
            added = await self._add(home, [message, *replies])
            before = tree.path_to(request.parent) if request.parent is not None else ()
            self._begin_all(added[1:], _Writing(home, (*before, message), request.answers.sampling, client))
        return added

    async def retry(self, identity: str, answers: AnswersSchema, client: JobClient) -> list[StoredMessage]:
        """Begin further replies to a message of the user, or to the one that a reply answers."""
        return await _completed(self._retry(identity, answers, client))

    async def _retry(self, identity: str, answers: AnswersSchema, client: JobClient) -> list[StoredMessage]:
        message = await self._stored(self.store.message, identity)
        asked = message.id if message.role == "user" else message.parent
        if asked is None:
            raise UsageError("this reply answers no message")
        async with self._beginning_replies():
            home = await self._stored(self.store.conversation_of, identity)
            tree = await self._stored(self.store.tree, home)
            added = await self._add(home, await self._new_replies(tree.conversation.system, asked, answers))
            self._begin_all(added, _Writing(home, tree.path_to(asked), answers.sampling, client))
        return added

    async def continue_reply(self, identity: str, choice: SamplingChoiceSchema, client: JobClient) -> None:
        """Write on behind the end of a reply. Raises RefusedRequest if its model is not there."""
        await _completed(self._continue_reply(identity, choice, client))

    async def _continue_reply(self, identity: str, choice: SamplingChoiceSchema, client: JobClient) -> None:
        async with self._beginning_replies():
            reply = await self._stored(self.store.message, identity)
            if reply.role != "assistant" or self.feeds.find_live(identity) is not None:
                raise UsageError("only a reply that is not being written can be continued")
            await self._check_model(reply.model)
            home = await self._stored(self.store.conversation_of, identity)
            begun = replace(reply, state="writing", finish="", error="")
            await self._stored(self.store.write_reply, begun)
            tree = await self._stored(self.store.tree, home)
            self._begin(begun, _Writing(home, tree.path_to(identity)[:-1], choice, client, reply.text))

    async def stop(self, identity: str) -> None:
        """Stop a reply; what was written stays."""
        live = self.feeds.find_live(identity)
        if live is not None:
            await self._interrupt([live], stopped=True)

    async def change(self, identity: str, operation: Callable[[str], Result], *, whole: bool = False) -> Result:
        """Run an operation of the store on one message, and show the result to all who watch.

        whole: whether other messages change with it.
        """
        home = await self._stored(self.store.conversation_of, identity)
        result = await self._stored(operation, identity)
        self.feeds.of(home).touch(identity, whole=whole)
        return result

    async def delete_message(self, identity: str) -> None:
        """Delete a message and all below it; replies that are being written there are stopped first."""
        home = await self._stored(self.store.conversation_of, identity)
        tree = await self._stored(self.store.tree, home)
        for live in list(self.feeds.of(home).live.values()):
            if any(message.id == identity for message in tree.path_to(live.message.id)):
                await self.stop(live.message.id)
        await self._stored(self.store.delete_message, identity)
        self.feeds.of(home).touch(whole=True)

    async def delete(self, home: str) -> None:
        """Delete a conversation; its replies are stopped first."""
        feed = self.feeds.of(home)
        for live in list(feed.live.values()):
            await self.stop(live.message.id)
        await self._stored(self.store.delete, home)
        feed.gone = True
        feed.touch()
        self.feeds.forget(home)

    async def prompt(self, identity: str) -> tuple[ServedModel, ThreadPrompt]:
        """The model of a reply and the prompt that it read."""
        reply = await self._stored(self.store.message, identity)
        if reply.role != "assistant":
            raise UsageError("only a reply has a prompt")
        home = await self._stored(self.store.conversation_of, identity)
        tree = await self._stored(self.store.tree, home)
        with self._needing(reply.model):
            model = await self.models.open(reply.model)
        known = {name: reply.sampling[name] for name in SamplingChoiceSchema.model_fields if name in reply.sampling}
        sampling = chosen_sampling(model.sampling, _read_choice(known))
        thread = tree.path_to(identity)[:-1]
        return model, await asyncio.to_thread(thread_prompt, model.engine, thread, reply.system, sampling)

    async def close(self) -> None:
        """Interrupt all replies; their texts are stored."""
        self._ending.set()
        async with self._beginning:  # a reply that is stored as being written has begun
            replies = self.feeds.live()
        await self._interrupt(replies)
        if tasks := [live.task for live in replies if live.task is not None]:
            await asyncio.wait(tasks)
        self.feeds.close()

    @asynccontextmanager
    async def _beginning_replies(self) -> AsyncIterator[None]:
        """Nothing else begins replies in the block. Raises RefusedRequest if the server is stopping."""
        async with self._beginning:
            if self._ending.is_set():
                raise stopping()
            yield

    async def _interrupt(self, replies: Sequence[LiveReply], *, stopped: bool = False) -> None:
        """End replies, and wait until they are stored or cannot be. stopped: whether it is the user who ends them."""
        for live in replies:
            live.stopped = live.stopped or stopped
            if live.generation is not None:
                live.generation.cancel()
        for live in replies:
            await live.settled.wait()

    async def _stored(self, operation: Callable[..., Result], *arguments: object) -> Result:
        """Run an operation of the store, which waits for the disk, in another thread."""
        return await asyncio.to_thread(operation, *arguments)

    async def _add(self, home: str, messages: Sequence[StoredMessage]) -> list[StoredMessage]:
        added = await self._stored(self.store.add, home, messages)
        self.feeds.of(home).touch(whole=True)
        return added

    async def _new_replies(self, system: str, asked: str, answers: AnswersSchema) -> list[StoredMessage]:
        """The empty replies to a message that are wanted.

        Raises RefusedRequest for a model that does not exist, UsageError for impossible settings.
        """
        chosen_sampling(SamplingParameters(), answers.sampling)
        if len(answers.models) * answers.drafts > REPLIES:
            raise RefusedRequest(400, f"At most {REPLIES} replies are written at once.", param="answers")
        for name in answers.models:
            await self._check_model(name)
        several = new_id() if len(answers.models) * answers.drafts > 1 else ""
        seed = secrets.randbelow(2**31) if answers.seed is None else answers.seed
        return [
            StoredMessage(
                new_id(), asked, "assistant", "", created=now(), state="writing", model=name, system=system,
                seed=seed, sample=number, drafts=several,
            )
            for name in answers.models
            for number in range(answers.drafts)
        ]  # fmt: skip

    async def _check_model(self, name: str) -> None:
        """Raises RefusedRequest for a model that does not exist."""
        if not await self.models.has(name):
            self.models.served.find(name)

    @contextmanager
    def _needing(self, model: str) -> Iterator[None]:
        """The model is not closed in the block."""
        self.models.need(model)
        try:
            yield
        finally:
            self.models.release(model)

    def _begin_all(self, replies: Sequence[StoredMessage], writing: _Writing) -> None:
        for reply in replies:
            self._begin(reply, writing)

    def _begin(self, reply: StoredMessage, writing: _Writing) -> None:
        live = LiveReply(reply)
        feed = self.feeds.of(writing.home)
        feed.live[reply.id] = live
        live.generation = asyncio.create_task(self._generate(live, feed, writing))
        live.task = asyncio.create_task(self._write(live, live.generation, feed))
        feed.touch(reply.id)

    async def _write(self, live: LiveReply, generation: asyncio.Task[None], feed: ConversationFeed) -> None:
        """Write one reply to its end, whatever that is. Only ``generation`` is cancelled, so the end is stored."""
        try:
            await generation
            live.message = replace(live.message, state="done")
        except asyncio.CancelledError:
            live.message = replace(live.message, state="stopped" if live.stopped else "interrupted")
        except RefusedRequest as error:
            ending = error.code == stopping().code
            live.message = replace(
                live.message, state="interrupted" if ending else "failed", error="" if ending else error.message
            )
        except TunesmithError as error:
            what = f"{error.what[:1].upper()}{error.what[1:]}{f'; {error.advice}' if error.advice else ''}."
            live.message = replace(live.message, state="failed", error=what)
        except Exception as error:
            self.log(failure_entry(error, "A reply of the chat page failed.", reply=live.message.id))
            live.message = replace(live.message, state="failed", error="The server failed to write this reply.")
        try:
            await self._store_end(live, feed)
        finally:
            del feed.live[live.message.id]
            feed.touch(live.message.id)
            self.feeds.forget_unused()
            live.settled.set()

    async def _store_end(self, live: LiveReply, feed: ConversationFeed) -> None:
        """Store a reply that has ended. While that fails, the page shows it from memory, and it is tried again."""
        ended = live.message
        while True:
            try:
                return await self._stored(self.store.write_reply, ended)
            except TunesmithError as error:
                if not live.settled.is_set():
                    self.log(LogEntry(str(error), "error", {"reply": ended.id}))
                    what = f"This reply is not on the disk yet, and the server tries again: {error.what}."
                    live.message = replace(ended, error=f"{ended.error} {what}".strip())
                    feed.touch(live.message.id)
                    live.settled.set()
            if self._ending.is_set():
                return self.log(LogEntry("The end of a reply is lost.", "error", {"reply": ended.id}))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), TRIED_EVERY)

    async def _generate(self, live: LiveReply, feed: ConversationFeed, writing: _Writing) -> None:
        with self._needing(live.message.model):
            await self._read_reply(live, feed, writing)

    async def _read_reply(self, live: LiveReply, feed: ConversationFeed, writing: _Writing) -> None:
        if not self.models.is_open(live.message.model):
            live.phase = "loading"
            feed.touch(live.message.id)
        model = await self.models.open(live.message.model)
        sampling = chosen_sampling(model.sampling, writing.choice)
        thread, system = writing.thread, live.message.system
        prompt = await asyncio.to_thread(thread_prompt, model.engine, thread, system, sampling, writing.begun)
        live.message = replace(
            live.message, prompt_tokens=len(prompt.ids), dropped=prompt.dropped, sampling=settings_of(sampling)
        )
        live.phase = "waiting"
        feed.touch(live.message.id)
        await self._read_stream(live, feed, model, _job(model, prompt, sampling, live.message, writing.client))

    async def _read_stream(self, live: LiveReply, feed: ConversationFeed, model: ServedModel, job: ReplyJob) -> None:
        stream = model.thread.submit(job)
        begin = saved = time.monotonic()
        spent = live.message.milliseconds
        try:
            async for event in stream:
                if live.phase != "writing":
                    live.phase, begin = "writing", time.monotonic()
                live.add(storable(event.text), len(event.tokens))
                elapsed = spent + round(1000 * (time.monotonic() - begin))
                live.message = replace(live.message, milliseconds=elapsed, finish=event.finish or "")
                feed.touch()
                if time.monotonic() - saved > SAVED_EVERY:
                    saved = time.monotonic()
                    with suppress(TunesmithError):  # its end is stored as well, and says what is wrong
                        await self._stored(self.store.write_reply, live.message)
        finally:
            stream.cancel()


async def _completed(operation: Coroutine[Any, Any, Result]) -> Result:
    """Run an operation to its end, even if the request that wants it is cancelled: a stored reply has to be begun."""
    return await asyncio.shield(asyncio.create_task(operation))


def _read_choice(known: Mapping[str, object]) -> SamplingChoiceSchema:
    """The settings of a stored reply. Raises UsageError for those of an imported one that are none."""
    try:
        return SamplingChoiceSchema.model_validate(known)
    except ValidationError as error:
        raise UsageError(f"the settings of this reply cannot be used: {error.errors()[0]['loc'][0]}") from None


def _job(
    model: ServedModel, prompt: ThreadPrompt, sampling: SamplingParameters, reply: StoredMessage, client: JobClient
) -> ReplyJob:
    """The request for a reply. A continued one is read as plain text, and draws with other random numbers."""
    renderer = model.engine.renderer
    reader = PlainReader(renderer.tokenizer, renderer.format.codec) if prompt.begun else renderer
    sample = reply.sample + (len(prompt.ids) << 8 if prompt.begun else 0)
    most = min(sampling.max_new_tokens, model.engine.context)  # what is reserved in the queue
    request = ReplyRequest(prompt.ids, replace(sampling, max_new_tokens=most), reply.seed, sample)
    return ReplyJob(request, reader, (), client)
