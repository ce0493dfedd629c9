"""Replies that a model writes to the prompts of validation data, and how near they are to what stands there.

Prompt and reference are what the store holds: the tokens before a reply, and the reply as the format reads its tokens.
So both are cut where training cuts them, and what a tokenizer cannot write is missing in the reference too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.dataset.store import Store
from tunesmith.draws import question_order
from tunesmith.evaluate.overlap import corpus_bleu, rouge_l
from tunesmith.generate.engine import Engine, Reply
from tunesmith.generate.sampling import Sampling
from tunesmith.text.tokens.crop import CropSettings, crop_threads
from tunesmith.text.tokens.prompts import prompt_ids
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt of the validation data. example: its number in the store. prompt: token ids. references: the replies to it
    that the data have, without repetition."""

    example: int
    source: str
    prompt: tuple[int, ...]
    references: tuple[str, ...]


def choose_questions(
    store: Store,
    sources: Sequence[str],
    renderer: Renderer,
    count: int,
    seed: int,
    crop: CropSettings | None = None,
) -> list[Question]:
    """At most ``count`` prompts, in the order of the store.

    Records are taken in the order of a digest of (seed, what they say) until there are enough prompts; so the choice does
    not depend on the order of the data. shortening: as in ``validation_loss``.
    """
    order = sorted(range(len(store)), key=lambda number: question_order(seed, store.key(number)))
    found: list[Question] = []
    for number in order:
        if len(found) >= count:
            break
        trees = [store.tree(number)]
        if crop is not None:
            trees = crop_threads(trees[0], crop, once=True)
        source = sources[int(store.source[number])]
        for prompt, references in _replies(trees, renderer).items():
            found.append(Question(number, source, prompt, tuple(references)))
    return sorted(found[:count], key=lambda question: question.example)


def _replies(trees: Sequence[TokenTree], renderer: Renderer) -> dict[tuple[int, ...], dict[str, None]]:
    """Prompt ids -> the trained replies to it, in their order; of ranked ones the best."""
    found: dict[tuple[int, ...], dict[str, None]] = {}
    for tree in trees:
        told = _not_the_best(tree)
        for start, end, source, message, _ in tree.spans.tolist():
            if message in told:
                continue  # what a turn foretells of the next one is not its reply
            told.add(message)
            text = renderer.parse(tree.ids[start:end].tolist()).text
            found.setdefault(prompt_ids(tree, source), {})[text] = None
    return found


def _not_the_best(tree: TokenTree) -> set[int]:
    """The ranked replies that another one of their group is better than."""
    best: dict[int, int] = {}
    for _, group, rank in tree.replies.tolist():
        best[group] = min(rank, best.get(group, rank))
    return {message for message, group, rank in tree.replies.tolist() if rank > best[group]}


def answer(engine: Engine, questions: Sequence[Question], max_new_tokens: int, batch_size: int) -> list[Reply]:
    """The most probable reply to every question, token by token, in their order."""
    sampling = Sampling(do_sample=False, max_new_tokens=max_new_tokens)
    return engine.continuations([question.prompt for question in questions], sampling, 0, batch_size)


def metrics(questions: Sequence[Question], replies: Sequence[Reply]) -> dict[str, float]:
    """bleu (0 to 100), rouge_l (0 to 1), stopped: the share of replies that ended by themselves, prompts: how many."""
    texts, references = [reply.text for reply in replies], [question.references for question in questions]
    return {
        "bleu": corpus_bleu(texts, references),
        "rouge_l": rouge_l(texts, references),
        "stopped": sum(reply.stopped for reply in replies) / len(replies),
        "prompts": len(replies),
    }


def predictions(
    questions: Sequence[Question], replies: Sequence[Reply], renderer: Renderer
) -> Iterator[Mapping[str, Any]]:
    """What was asked, expected and said, one JSON object each."""
    for question, reply in zip(questions, replies, strict=True):
        yield {
            "example": question.example,
            "source": question.source,
            "prompt": renderer.tokenizer.decode(question.prompt, skip_controls=False),
            "references": list(question.references),
            "reply": reply.text,
            "stopped": reply.stopped,
            "tokens": reply.tokens,
        }
