"""`tunesmith chat --url`: a chat with a model behind OpenAI's API. This module imports no PyTorch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith.apps.api_client import ApiClient, base_address
from tunesmith.apps.api_events import ModelFacts
from tunesmith.apps.chat_loop import ChatFiles, ChatStreams, hold_chat, open_terminal
from tunesmith.apps.chat_model import ReplyPart
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.tokens.show import ShownToken
from tunesmith.text.tree import Message

FIELDS: Mapping[str, str] = {
    **{name: name for name in ("temperature", "top_k", "top_p", "typical_p", "repetition_penalty")},
    "min_new_tokens": "min_tokens",
    "max_new_tokens": "max_tokens",
}
"""Sampling setting -> field of a request. ``do_sample: false`` is a temperature of 0."""

MOST_LISTED = 10


class ServedChatModel:
    """See ``ChatModel``. Settings that the user has not changed are those of the server.

    client: asks the server.
    facts: what is known about the model there.
    seed: the seed of the first reply, the next one has the next number; None leaves it to the server.
    """

    commands_left_out = frozenset(("context", "tokens"))
    passage_label: str | None = None
    context: int | None = None

    def __init__(self, client: ApiClient, facts: ModelFacts, seed: int | None) -> None:
        self._client, self._facts, self._seed = client, facts, seed
        self.multi_turn, self.format_name = facts.multi_turn, facts.format_name
        self._settings: dict[str, Any] = {}

    @property
    def about(self) -> str:
        """See ``ChatModel``."""
        seed = "" if self._seed is None else f", seed {self._seed}"
        format = f"prompt format {self.format_name}, " if self.format_name else ""
        return f"model {self._facts.name} at {self._client.base}, {format}{self.describe_sampling()}{seed}"

    @property
    def draws(self) -> bool:
        """See ``ChatModel``."""
        return bool(self._settings.get("do_sample", self._facts.draws or "temperature" in self._settings))

    @property
    def notice(self) -> str | None:
        """See ``ChatModel``."""
        return "the key is sent without encryption: use https" if self._client.sends_key_in_clear else None

    def find_system_fault(self, message: Message) -> str | None:
        """See ``ChatModel``. Only the server knows."""
        return None

    def change_sampling(self, settings: Mapping[str, Any]) -> None:
        """See ``ChatModel``."""
        if unknown := settings.keys() - FIELDS.keys() - {"do_sample"}:
            what = f"{min(unknown)} cannot be set in a chat with a server"
            raise UsageError(what, advice=f"the settings are do_sample, {', '.join(FIELDS)}")
        changed = {**self._settings, **settings}
        SamplingParameters(**changed)
        self._settings = changed

    def describe_sampling(self) -> str:
        """See ``ChatModel``."""
        chosen = (f"{name}={value}".lower() for name, value in self._settings.items())
        return " ".join(chosen) or "sampling as the server does it"

    def prepare(self, messages: Sequence[Message]) -> int:
        """See ``ChatModel``. The server makes the prompt."""
        return 0

    def stream(self, messages: Sequence[Message], sample: int, drafts: int) -> Iterator[ReplyPart]:
        """See ``ChatModel``."""
        request: dict[str, Any] = {
            "model": self._facts.name,
            "messages": [{"role": message.role, "content": message.text} for message in messages],
        }
        request |= {FIELDS[name]: value for name, value in self._settings.items() if name in FIELDS}
        if "do_sample" in self._settings:
            request["temperature"] = self._settings.get("temperature", 1.0) if self.draws else 0
        if drafts > 1:
            request["n"] = drafts
        if self._seed is not None:
            request["seed"] = (self._seed + sample) % 2**31
        return self._client.reply(request, drafts)

    def prompt_tokens(self) -> Sequence[ShownToken]:
        """See ``ChatModel``. Only the server knows them."""
        return ()


def choose_model(client: ApiClient, name: str | None) -> ModelFacts:
    """The model to chat with: the only one of the server, if the user names none.

    A server without a list of models is asked for the name as it is. Raises UsageError, MissingInputError, DataError.
    """
    try:
        models = {model.name: model for model in client.models()}
    except DataError:
        if name is None:
            raise
        return ModelFacts(name)
    if name is None and len(models) == 1:
        return client.add_facts(*models.values())
    if name is not None and (name in models or not models):
        return client.add_facts(models.get(name, ModelFacts(name)))
    names = list(models)
    listed = ", ".join(names[:MOST_LISTED]) + (", ..." if len(names) > MOST_LISTED else "")
    if name is None:
        what = f"the server has {len(names)} models: {listed}" if names else "the server lists no models"
        raise UsageError(what, where=str(client.base), advice="name one: `tunesmith chat NAME --url URL`")
    near = difflib.get_close_matches(name, names, n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"it has {listed}"
    raise UsageError(f"the server has no model {name!r}", where=str(client.base), advice=advice)


def run(
    url: str,
    *,
    model: str | None = None,
    key: str | None = None,
    key_name: str = "",
    system: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    seed: int | None = None,
    files: ChatFiles | None = None,
    streams: ChatStreams | None = None,
) -> None:
    """Chat with a server until the input ends; otherwise as ``tunesmith.apps.chat.run``.

    url: the address of the server, or of its API.
    model: the name of the model; None takes the only one.
    key, key_name: the API key, and the environment variable that has it.
    Raises UsageError, MissingInputError, DataError.
    """
    files = files or ChatFiles()
    terminal = open_terminal(streams or ChatStreams(), files)
    client = ApiClient(base_address(url), key, key_name)
    served = ServedChatModel(client, choose_model(client, model), seed)
    served.change_sampling({name: value for name, value in (sampling or {}).items() if value is not None})
    hold_chat(served, terminal, files, system)
