"""Evaluation by generation: replies to prompts of the validation data, and how much they overlap with the references.

Prompts and references come from the store: the tokens before a reply, and the reply as the prompt format parses its
    tokens. So both are truncated as in training, and what a tokenizer cannot encode is missing in the reference too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.dataset.store import Store
from tunesmith.draws import question_order
from tunesmith.evaluate.overlap import corpus_bleu, rouge_l
from tunesmith.evaluate.validation import evaluation_trees
from tunesmith.generate.engine import Engine, GeneratedReply
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.tokens.crop import CropSettings
from tunesmith.text.tokens.prompts import prompt_ids
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree


@dataclass(frozen=True, slots=True)
class EvaluationPrompt:
    """A prompt of the validation data with the replies that the data have to it.

    example: the number of its record in the store.
    source: the name of its data source.
    ids: the token ids of the prompt.
    references: the texts of the replies, without repetition.
    """

    example: int
    source: str
    ids: tuple[int, ...]
    references: tuple[str, ...]


def choose_prompts(
    store: Store,
    sources: Sequence[str],
    renderer: Renderer,
    count: int,
    seed: int,
    crop: CropSettings | None = None,
) -> list[EvaluationPrompt]:
    """At most ``count`` prompts, in the order of the store.

    Records are taken in the order of a digest of the seed and their content until there are enough prompts, so the
    choice does not depend on the order of the data. ``sources`` and ``crop`` are those of ``measure_sources``.
    """
    order = sorted(range(len(store)), key=lambda number: question_order(seed, store.key(number)))
    found: list[EvaluationPrompt] = []
    for number in order:
        if len(found) >= count:
            break
        source = sources[int(store.source[number])]
        for ids, references in _replies(evaluation_trees(store, number, crop), renderer).items():
            found.append(EvaluationPrompt(number, source, ids, tuple(references)))
    return sorted(found[:count], key=lambda prompt: prompt.example)


def _replies(trees: Sequence[TokenTree], renderer: Renderer) -> dict[tuple[int, ...], dict[str, None]]:
    """Prompt ids -> the texts of the trained replies to it, in their order; of ranked replies only the best."""
    found: dict[tuple[int, ...], dict[str, None]] = {}
    for tree in trees:
        skipped = _not_best(tree)
        for start, end, source, message, _ in tree.spans.tolist():
            if message in skipped:
                continue
            skipped.add(message)  # a later span of a message is no reply: it predicts the role token of the next turn
            text = renderer.parse(tree.ids[start:end].tolist()).text
            found.setdefault(prompt_ids(tree, source), {})[text] = None
    return found


def _not_best(tree: TokenTree) -> set[int]:
    """The messages that are ranked below another reply of their group."""
    best: dict[int, int] = {}
    for _, group, rank in tree.replies.tolist():
        best[group] = min(rank, best.get(group, rank))
    return {message for message, group, rank in tree.replies.tolist() if rank > best[group]}


def generate_replies(
    engine: Engine, prompts: Sequence[EvaluationPrompt], max_new_tokens: int, batch_size: int
) -> list[GeneratedReply]:
    """The greedy reply to every prompt, in their order."""
    sampling = SamplingParameters(do_sample=False, max_new_tokens=max_new_tokens)
    return engine.continuations([prompt.ids for prompt in prompts], sampling, 0, batch_size)


def reply_metrics(prompts: Sequence[EvaluationPrompt], replies: Sequence[GeneratedReply]) -> dict[str, float]:
    """Metrics of the replies, one to each prompt, against the references.

    bleu: 0 to 100 (``corpus_bleu``).
    rouge_l: 0 to 1 (``overlap.rouge_l``).
    stopped: the share of replies that end with a stop token, 0 to 1.
    prompts: their number.
    """
    texts, references = [reply.text for reply in replies], [prompt.references for prompt in prompts]
    return {
        "bleu": corpus_bleu(texts, references),
        "rouge_l": rouge_l(texts, references),
        "stopped": sum(reply.stopped for reply in replies) / len(replies),
        "prompts": len(replies),
    }


def prediction_records(
    prompts: Sequence[EvaluationPrompt], replies: Sequence[GeneratedReply], renderer: Renderer
) -> Iterator[Mapping[str, Any]]:
    """Prompt, references and reply as one JSON object each, in their order."""
    for prompt, reply in zip(prompts, replies, strict=True):
        yield {
            "example": prompt.example,
            "source": prompt.source,
            "prompt": renderer.tokenizer.decode(prompt.ids, skip_controls=False),
            "references": list(prompt.references),
            "reply": reply.text,
            "stopped": reply.stopped,
            "tokens": reply.tokens,
        }
