"""Replies to validation prompts at evaluations: some are shown, and all are compared with the replies of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tunesmith.batch.protocols import MicroBatch
from tunesmith.compose.components.steps import crop_settings
from tunesmith.compose.models.families import LanguagePolicy
from tunesmith.data.dataset.store import Store
from tunesmith.draws import stream_seed
from tunesmith.errors import DataError
from tunesmith.evaluate.generation import (
    EvaluationPrompt,
    choose_prompts,
    generate_replies,
    prediction_records,
    reply_metrics,
)
from tunesmith.files import write_file
from tunesmith.generate.engine import Engine, GeneratedReply
from tunesmith.model.attention_choice import attention_restored, stock_attention, uses_stock_attention
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message
from tunesmith.train.run.shown import ShownText
from tunesmith.world import Communicator

PREDICTIONS = "predictions"
SHOWN_TOKENS = 40
"""Largest number of tokens of a reply that is only shown; a line of a terminal has hardly more."""
QUESTIONS = ("a", "b")
"""Questions that differ in everything but the text that a prompt format writes around them."""


class PromptText:
    """Turns token ids of a prompt into the text of its messages.

    The text that the prompt format writes around every question, such as an introduction, is left out, if it is that of
    a single question. Of several messages, each after the first is a new line that begins with its role.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._tokenizer, self._codec = renderer.tokenizer, renderer.format.codec
        one, other = (self._decode(renderer.prompt([Message("user", letter)])) for letter in QUESTIONS)
        self._before = _shared_start(one, other)
        self._after = _shared_start(one[::-1], other[::-1])[::-1]
        self._controls = renderer.format.controls
        self._turns = _find_turn_texts(renderer)

    def __call__(self, ids: Sequence[int]) -> str:
        text = self._decode(ids)
        if self._turns is not None:
            whole = self._decode(ids, skip_controls=False)
            whole = whole.removeprefix(self._turns.before).removesuffix(self._turns.after)
            if self._turns.answer in whole:
                return self._with_roles(whole, self._turns)
        if len(text) < len(self._before) + len(self._after):
            return text
        return text.removeprefix(self._before).removesuffix(self._after).strip()

    def _decode(self, ids: Sequence[int], *, skip_controls: bool = True) -> str:
        """The contents of tokens, with line breaks and tabs for the marks that T5 reads."""
        return self._codec.decode(self._tokenizer.decode(ids, skip_controls=skip_controls))

    def _with_roles(self, text: str, turns: TurnTexts) -> str:
        """The messages on lines with their roles. text: with the names of control tokens, which are left out."""
        marked = text.replace(turns.answer, "\n[assistant] ").replace(turns.question, "\n[user] ")
        for control in self._controls:
            marked = marked.replace(control, "")
        return marked.strip()


def _find_turn_texts(renderer: Renderer) -> TurnTexts | None:
    """The texts around messages; None for a format without several turns, or with only white space between them."""

    def text(first: str, answer: str, last: str) -> str:
        messages = [Message("user", first), Message("assistant", answer), Message("user", last)]
        return renderer.tokenizer.decode(renderer.prompt(messages), skip_controls=False)

    one, other = QUESTIONS
    try:
        usual = text(one, one, one)
        starts = [len(_shared_start(usual, text(*texts))) for texts in _varied(one, other)]
    except DataError:
        return None
    ends = [start + len(one) for start in starts]
    found = TurnTexts(usual[: starts[0]], usual[ends[0] : starts[1]], usual[ends[1] : starts[2]], usual[ends[2] :])
    return found if found.answer.strip() and found.question.strip() else None


def _varied(one: str, other: str) -> Sequence[tuple[str, str, str]]:
    """Three texts of which one is another one, at each place."""
    return (other, one, one), (one, other, one), (one, one, other)


@dataclass(frozen=True, slots=True)
class TurnTexts:
    """What a prompt format writes around the messages of a conversation, with the names of control tokens.

    before: the first question.
    answer: between a question and its answer.
    question: between an answer and the next question.
    after: the last question.
    """

    before: str
    answer: str
    question: str
    after: str


def _shared_start(one: str, other: str) -> str:
    """The longest text that both begin with."""
    length = next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    return one[:length]


class TrainingEngine:
    """Generates greedy replies with the present weights of a model that is being trained, which it does not change.

    policy: of the model.
    renderer: of the run.
    Raises DataError if replies of the model cannot be generated.
    """

    def __init__(self, policy: LanguagePolicy[MicroBatch], renderer: Renderer, world: Communicator) -> None:
        self._policy, self._world = policy, world
        # A model that needs its stock attention here keeps its own for training.
        with policy.gathered(), attention_restored(policy.model):
            self.engine = Engine(policy.model, renderer)
            self._stock = uses_stock_attention(policy.model)

    def replies(self, prompts: Sequence[EvaluationPrompt], max_new_tokens: int, batch: int) -> list[GeneratedReply]:
        """The reply to every prompt, in their order; each process generates some and gets all.

        batch: replies that are generated at once.
        """
        self._policy.eval()
        world = self._world
        stock = stock_attention(self._policy.model) if self._stock else nullcontext()
        with self._policy.gathered(), self._policy.autocast(), stock:
            own = generate_replies(self.engine, prompts[world.rank :: world.size], max_new_tokens, batch)
        if world.size == 1:
            return own
        parts = world.gather([[each.text, each.ids, each.stopped, each.finish_reason] for each in own])
        found = [parts[number % world.size][number // world.size] for number in range(len(prompts))]
        return [GeneratedReply(text, tuple(ids), stopped, finish_reason=reason) for text, ids, stopped, reason in found]


@dataclass(frozen=True, slots=True)
class GeneratedReplies:
    """What is generated at evaluations.

    metrics: evaluates the present weights after a step; None if no replies are asked for.
    texts: prompts and replies that are shown.
    """

    metrics: Callable[[int], Mapping[str, float]] | None
    texts: Callable[[], Sequence[ShownText]]


def generated_replies(
    recipe: Recipe,
    policy: LanguagePolicy[MicroBatch],
    renderer: Renderer,
    validation: tuple[Store, Sequence[str]],
    directory: Path,
    notice: Callable[[str], None],
    world: Communicator,
) -> GeneratedReplies:
    """The replies of a run to validation prompts, the same prompts at every evaluation.

    validation: the data, and the names of their sources.
    directory: of the run. The replies after step 100 are written to predictions/step-000100.jsonl in it.
    notice: shows the user how replies are generated, if that is out of the ordinary, or why none are shown.
    world: the processes of the run; the first writes the replies.
    Raises DataError if replies are asked for that cannot be generated.
    """
    keys = recipe.evaluate
    shown = 0 if recipe.text.targets == "all" else keys.show  # its targets are not always replies
    seed, crop = stream_seed(recipe.seed, "replies"), crop_settings(recipe, renderer)
    prompts = choose_prompts(*validation, renderer, max(keys.replies, shown), seed, crop)
    nothing = GeneratedReplies(None, lambda: ())
    if not prompts:
        return nothing
    try:
        engine = TrainingEngine(policy, renderer, world)
    except DataError as error:
        if keys.replies:
            raise
        notice(f"no replies are shown at evaluations: {error.what}")
        return nothing
    if engine.engine.notice is not None:
        notice(engine.engine.notice)
    chosen = choose_prompts(*validation, renderer, keys.replies, seed, crop)
    text = PromptText(renderer)
    # A document has no prompt, so its continuation says nothing.
    first = [each for each in choose_prompts(*validation, renderer, shown, seed, crop) if text(each.ids)]

    def texts() -> Sequence[ShownText]:
        replies = engine.replies(first, min(keys.max_new_tokens, SHOWN_TOKENS), keys.batch_size)
        pairs = zip(first, replies, strict=True)
        return [each for prompt, reply in pairs for each in _show(text(prompt.ids), reply)]

    def metrics(step: int) -> Mapping[str, float]:
        replies = engine.replies(chosen, keys.max_new_tokens, keys.batch_size)
        lines = [json.dumps(each, ensure_ascii=False) for each in prediction_records(chosen, replies, renderer)]
        if world.is_first:
            write_file(directory / PREDICTIONS / f"step-{step:06d}.jsonl", "\n".join(lines) + "\n")
        return reply_metrics(chosen, replies)

    return GeneratedReplies(metrics if chosen else None, texts if first else lambda: ())


def _show(prompt: str, reply: GeneratedReply) -> tuple[ShownText, ShownText]:
    return ShownText("prompt", prompt), ShownText("reply", reply.text)
