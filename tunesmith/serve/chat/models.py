"""The models that the chat page offers: those that are served already, and those that are opened when they are used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.serve.chat.prompts import describe_model
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModel, ServedModels, open_models
from tunesmith.serve.log_entry import Log, LogEntry
from tunesmith.serve.refusals import RefusedRequest, closed_model

MOST_OPENED = 4
"""Models that are open at the same time because somebody chats with them; a message may ask so many."""

ModelList = Callable[[], Mapping[str, str]]
"""Lists name -> directory of the runs that can be opened; it reads the disk."""


@dataclass(frozen=True, slots=True)
class ModelPlaces:
    """How a model becomes reachable for all parts of the server, and how it stops to be.

    add: serves a model whose thread was started.
    remove: serves it no longer.
    """

    add: Callable[[ServedModel], None]
    remove: Callable[[ServedModel], None]


class ChatModels:
    """The models by name. All methods are called in one asyncio loop.

    At most ``MOST_OPENED`` models are open that the server did not start with: for another one, the one is closed that
    was used longest ago, by the chat or a program, and that writes no reply.

    served: the models that have a thread.
    places: where a model is added that was opened.
    closed: the runs that can be opened. It is asked again each time, so a run that ends later is there.
    limits: of a model that is opened.
    log: gets what is loaded.
    """

    def __init__(
        self, served: ServedModels, places: ModelPlaces, closed: ModelList, limits: LoadLimits, log: Log
    ) -> None:
        self.served, self._places = served, places
        self._list, self._limits, self._log = closed, limits, log
        self._opening = asyncio.Lock()
        self._opened: set[str] = set()  # names of models that the server did not start with
        self._needed: dict[str, int] = {}  # name -> how many replies or views need the model now

    async def has(self, name: str) -> bool:
        """Whether there is a model with a name."""
        return self.is_open(name) or name in await self._closed()

    def is_open(self, name: str) -> bool:
        """Whether a model has a thread."""
        return any(model.name == name for model in self.served)

    async def describe(self) -> list[dict[str, Any]]:
        """What the page has to know; of a model that was not opened, only its name."""
        closed = await self._closed()
        found = [{"name": model.name, "open": True, **describe_model(model)} for model in self.served]
        known = {each["name"] for each in found}
        return found + [{"name": name, "open": False} for name in closed if name not in known]

    def need(self, name: str) -> None:
        """Do not close a model until ``release`` is called as often."""
        self._needed[name] = self._needed.get(name, 0) + 1

    def release(self, name: str) -> None:
        """See ``need``."""
        self._needed[name] -= 1
        if not self._needed[name]:
            del self._needed[name]

    async def open(self, name: str) -> ServedModel:
        """The model of a name, which is loaded if it has no thread yet. Raises RefusedRequest."""
        if not self.is_open(name):
            async with self._opening:
                if not self.is_open(name):
                    await self._load(name)
        return self.served.find(name)

    async def _load(self, name: str) -> None:
        path = (await self._closed()).get(name)
        if path is None:
            return
        self._close_unused()
        try:
            (found,) = await asyncio.to_thread(open_models, {name: path}, None, self._limits, self._log)
        except TunesmithError as error:
            raise RefusedRequest(400, f"The model {name!r} cannot be opened: {error.what}.", param="model") from error
        found.thread.start()
        self._places.add(found)
        self._opened.add(name)

    def _close_unused(self) -> None:
        """Close the model that was used longest ago, if as many are open as may be. Raises RefusedRequest."""
        if len(self._opened) < MOST_OPENED:
            return
        for model in self.served.by_last_use():
            name = model.name
            if name in self._opened and name not in self._needed and model.thread.is_idle:
                self._opened.remove(name)
                self._places.remove(model)
                model.thread.end(closed_model)
                self._log(LogEntry(f"closed {name}, because other models are used", fields={"model": name}))
                return
        what = f"{MOST_OPENED} models are open, and all of them write replies. Try again when one has ended."
        raise RefusedRequest(503, what, param="model", code="too_many_models", retry_after=10)

    async def _closed(self) -> Mapping[str, str]:
        return await asyncio.to_thread(self._list)
