"""The models that the chat page offers: those that are served already, and those that are opened when they are used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.serve.chat.prompts import describe_model
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModel, ServedModels, open_models
from tunesmith.serve.refusals import RefusedRequest

Notice = Callable[[str], None]


class ChatModels:
    """The models by name.

    served: the models that have a thread.
    add: serves a model whose thread was started.
    closed: name -> directory of the runs that can be opened.
    limits: of a model that is opened.
    notice: reports what is loaded.
    """

    def __init__(
        self,
        served: ServedModels,
        add: Callable[[ServedModel], None],
        closed: Mapping[str, str],
        limits: LoadLimits,
        notice: Notice,
    ) -> None:
        self.served, self._add = served, add
        self._closed, self._limits, self._notice = dict(closed), limits, notice
        self._opening = asyncio.Lock()

    def names(self) -> list[str]:
        """All names, the served ones first."""
        served = [model.name for model in self.served]
        return served + [name for name in self._closed if name not in served]

    def is_open(self, name: str) -> bool:
        """Whether a model has a thread."""
        return any(model.name == name for model in self.served)

    def describe(self) -> list[dict[str, Any]]:
        """What the page has to know; of a model that was not opened, only its name."""
        found = [{"name": model.name, "open": True, **describe_model(model)} for model in self.served]
        known = {each["name"] for each in found}
        return found + [{"name": name, "open": False} for name in self._closed if name not in known]

    async def open(self, name: str) -> ServedModel:
        """The model of a name, which is loaded if it has no thread yet. Raises RefusedRequest."""
        if self.is_open(name) or name not in self._closed:
            return self.served.find(name)
        async with self._opening:
            if self.is_open(name):
                return self.served.find(name)
            try:
                found = await asyncio.to_thread(
                    open_models, {name: self._closed[name]}, None, self._limits, self._notice
                )
            except TunesmithError as error:
                raise RefusedRequest(
                    400, f"The model {name!r} cannot be opened: {error.what}.", param="model"
                ) from error
            found[0].thread.start()
            self._add(found[0])
            return found[0]
