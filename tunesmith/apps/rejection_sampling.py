"""Rejection sampling: the replies of sampling reports by their scores, as files to compare or to train on.

All replies to a prompt compete, whatever their report and configuration, unless one configuration has another system
message (``pre_text``) or another profile of the reply (``system_profile``), which the replies answer as well. A reply
is used where it can be trained on: it has text, no text of control tokens, and, where its report shows it, was ended by
the model and not cut.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from tunesmith.apps.preference_pairs import pair_line
from tunesmith.apps.preferences import PairCounts, PairSelection, count_pairs
from tunesmith.apps.prompt_additions import NO_ADDITION, PromptAddition, addition_fields
from tunesmith.apps.sample_prompts import conversation_fields
from tunesmith.apps.sampling_reports import (
    END_TOKENS,
    ConversationKey,
    SampledReplies,
    SamplingReport,
    conversation_key,
)
from tunesmith.apps.score_report import ScoreTable
from tunesmith.data.readers.oasst import ROLE_NAMES
from tunesmith.data.readers.reader import ReadTree
from tunesmith.report.reply_faults import has_control_text
from tunesmith.text.tree import Message, Tree

SELECTED, TREE_REPLIES, CHOSEN = 3, 5, 1
"""How many replies to a prompt are taken, unless the user says it: in a selection, in a tree, in a report."""
TREE_STATE = "ranking"
TOO_FEW = "fewer than two usable replies"
CUT = "cut at the limit"


class ScoredReply(NamedTuple):
    """One reply.

    text: without end tokens.
    score: of the reward model.
    ended: whether the model ended it by itself; None where the report does not show it.
    origin: the model and the parameters of its configuration, as Open-Assistant's trees name them.
    """

    text: str
    score: float
    ended: bool | None
    origin: str

    @property
    def fault(self) -> str:
        """Why nothing is trained on the reply; empty where something can be."""
        if not self.text.strip():
            return "empty"
        if has_control_text(self.text):
            return "text of control tokens"
        return CUT if self.ended is False else ""


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """All scored replies to one prompt.

    text: the prompt, as the reports write it.
    asked: its messages.
    replies: the best first; equal scores in the order of the reports.
    addition: what the replies answer in addition to the prompt.
    """

    text: str
    asked: tuple[Message, ...]
    replies: tuple[ScoredReply, ...]
    addition: PromptAddition = NO_ADDITION

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation that the replies answer."""
        return self.addition.messages(self.asked)

    def as_json(self) -> dict[str, Any]:
        """How a report holds the prompt; reading it gives the same messages."""
        if self.asked == (Message("user", self.text),):
            return {"prompt": self.text}
        return {"prompt": self.text, **conversation_fields(self.asked)}

    def usable(self) -> list[ScoredReply]:
        """The replies without a fault, every text once."""
        texts: dict[str, ScoredReply] = {}
        for reply in self.replies:
            if not reply.fault:
                texts.setdefault(reply.text.strip(), reply)
        return list(texts.values())

    def left_out(self) -> Counter[str]:
        """How many replies are not usable, by reason."""
        faults = Counter(reply.fault for reply in self.replies if reply.fault)
        same = len(self.replies) - faults.total() - len(self.usable())
        return faults + Counter({"same text as another": same})


def ranked_prompts(reports: Sequence[SamplingReport], tables: Sequence[ScoreTable]) -> list[ScoredPrompt]:
    """Every prompt with its scored replies, in the order of the reports. tables: the scores of every report."""
    found: dict[tuple[ConversationKey, PromptAddition], tuple[SampledReplies, list[ScoredReply]]] = {}
    for report, table in zip(reports, tables, strict=True):
        known = report.shows_ends
        for replies, scores in zip(report.prompts, table, strict=True):
            asked = conversation_key(replies.conversation)
            for name in replies.outputs:
                _, together = found.setdefault((asked, report.addition(name)), (replies, []))
                together.extend(_scored(report, replies, name, scores[name], known))
    return [
        ScoredPrompt(first.prompt, first.conversation, tuple(sorted(replies, key=lambda reply: -reply.score)), addition)
        for (_, addition), (first, replies) in found.items()
        if replies
    ]


def _scored(
    report: SamplingReport, replies: SampledReplies, name: str, scores: Sequence[float | None], known: bool
) -> Iterator[ScoredReply]:
    """The replies of the configuration ``name`` that have a score."""
    parameters = ",".join(f"{key}={value}" for key, value in report.parameters.get(name, {}).items())
    for text, score, ended in zip(replies.outputs[name], scores, replies.ended[name], strict=True):
        if score is not None:
            yield ScoredReply(text, score, ended if known else None, f"{report.model},{parameters}")


def selection(prompts: Sequence[ScoredPrompt], keep: int = SELECTED) -> dict[str, Any]:
    """The three files of Open-Assistant's ``rejection_sampling.py`` by their names: all replies, whatever their faults.

    selected_samples: the ``keep`` best replies to every prompt, the best first, each with its score as text.
    rejected_samples: the others, the worst first.
    comparison: mean, min and max of the scores in both, as texts.
    """
    selected = [_selected(prompt, prompt.replies[:keep]) for prompt in prompts]
    rejected = [_selected(prompt, tuple(reversed(prompt.replies[keep:]))) for prompt in prompts]
    comparison = {"rejected_samples": _described(rejected), "selected_samples": _described(selected)}
    return {"selected_samples": selected, "rejected_samples": rejected, "comparison": comparison}


def _selected(prompt: ScoredPrompt, replies: Sequence[ScoredReply]) -> dict[str, Any]:
    return {"prompt": prompt.text, "outputs": [[reply.text, str(round(reply.score, 2))] for reply in replies]}


def _described(samples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Statistics of the scores as they are written; without any score no statistics."""
    scores = [float(score) for item in samples for _, score in item["outputs"]]
    if not scores:
        return {}
    return {name: str(float(value)) for name, value in _statistics(scores).items()}


def _statistics(scores: Sequence[float]) -> dict[str, Any]:
    return {"mean": np.mean(scores), "min": np.min(scores), "max": np.max(scores)}


def chosen_report(
    prompts: Sequence[ScoredPrompt], reports: Sequence[SamplingReport], reward_model: str, keep: int = CHOSEN
) -> dict[str, Any]:
    """A sampling report with the best usable replies to every prompt; prompts without one are left out.

    A reply that the model ended by itself has an end token, as in the reports. Replies that answer different additions
    to the prompts are those of different configurations.
    """
    most = max((len(prompt.replies) for prompt in prompts), default=0)
    parameters = {"best_of": most, "reward_model": reward_model}
    additions = list(dict.fromkeys(prompt.addition for prompt in prompts))
    names = {
        each: f"best_of_{most}" if len(additions) == 1 else f"best_of_{most}_{number}"
        for number, each in enumerate(additions, start=1)
    }
    items: dict[ConversationKey, dict[str, Any]] = {}
    for prompt in prompts:
        outputs = [reply.text + (END_TOKENS[0] if reply.ended else "") for reply in prompt.usable()[:keep]]
        if outputs:
            result = {"sampling_config": names[prompt.addition], "sampling_params": parameters, "outputs": outputs}
            item = items.setdefault(conversation_key(prompt.asked), {**prompt.as_json(), "results": []})
            item["results"].append(result)
    return {
        "model_name": ", ".join(dict.fromkeys(report.model for report in reports)),
        "date": max(report.date for report in reports),
        "args": {
            "reports": [report.name for report in reports],
            "reward_model": reward_model,
            "keep": keep,
            **addition_fields({name: addition for addition, name in names.items()}),
        },
        "prompts": list(items.values()),
    }


def rejection_tree(prompt: ScoredPrompt, keep: int = TREE_REPLIES) -> dict[str, Any] | str:
    """A tree as Open-Assistant's ``create_synth_import.py`` makes them, or the reason why there is none.

    Replies have ranks by score, which the original has not; equal scores have equal ranks. Of more than ``keep`` usable
    replies the best, the worst and those at equal steps between them are taken. Ids follow from the content.
    """
    replies = spread(prompt.usable(), keep)
    if len(replies) < 2:
        return TOO_FEW
    for number, message in enumerate(prompt.messages):
        is_known = message.role in ("user", "assistant") or (message.role == "system" and number == 0)
        if not is_known or not message.text.strip() or message.extra_texts():
            return "a message that the trees cannot have"
    return _tree(prompt, replies)


def spread(replies: Sequence[ScoredReply], count: int) -> list[ScoredReply]:
    """``count`` replies at equal steps from the first to the last, both included; all if there are no more."""
    if len(replies) <= count:
        return list(replies)
    last = len(replies) - 1
    return [replies[round(step * last / max(count - 1, 1))] for step in range(count)]


def _tree(prompt: ScoredPrompt, replies: Sequence[ScoredReply]) -> dict[str, Any]:
    texts = [message.text for message in prompt.messages]
    wanted = [json.dumps(prompt.addition.as_json())] if prompt.addition.profile else []
    ids = [_identity([*wanted, *texts[: number + 1]]) for number in range(len(texts))]
    ranks = (rank for rank, (_, group) in enumerate(groupby(replies, key=lambda reply: reply.score)) for _ in group)
    below: list[dict[str, Any]] = [
        {
            "message_id": _identity([*wanted, *texts, reply.text, reply.origin]),
            "parent_id": ids[-1],
            "text": reply.text,
            "role": "assistant",
            "rank": rank,
            "synthetic": True,
            "model_name": reply.origin,
            **_properties(prompt.addition.reply(reply.text)),
            "replies": [],
        }
        for reply, rank in zip(replies, ranks, strict=True)
    ]
    for number in range(len(texts) - 1, -1, -1):
        node: dict[str, Any] = {"message_id": ids[number]}
        if number:
            node["parent_id"] = ids[number - 1]
        role = ROLE_NAMES[prompt.messages[number].role]
        node |= {"text": texts[number], "role": role, "synthetic": False, "replies": below}
        below = [node]
    return {"message_tree_id": ids[0], "tree_state": TREE_STATE, "prompt": below[0]}


def _properties(reply: Message) -> dict[str, Any]:
    """Language and labels of a reply, as the trees hold them."""
    labels = {name: {"value": value, "count": 1} for name, value in reply.labels.items()}
    return {**({"lang": reply.lang} if reply.lang else {}), **({"labels": labels} if labels else {})}


def _identity(texts: Sequence[str]) -> str:
    """A UUID that follows from the texts."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "\0".join(texts)))


def preference_lines(prompts: Sequence[ScoredPrompt], source: str, counts: PairCounts) -> Iterator[bytes]:
    """For every prompt the best and the worst usable reply as a line for the reader ``preference``.

    Replies with equal scores make no pair. ``margin`` is the difference of the scores.
    source: the name of the source in every line.
    counts: of the prompts; it grows while the lines are read.
    """
    for prompt in prompts:
        replies = prompt.usable()
        if len(replies) < 2:
            counts.reject(TOO_FEW)
        elif replies[0].score == replies[-1].score:
            counts.reject("equal scores")
        else:
            sides = [
                prompt.addition.reply(reply.text, rank, reply.score)
                for rank, reply in enumerate((replies[0], replies[-1]))
            ]
            asked = prompt.messages
            last = len(asked) - 1
            tree = Tree((*asked, *sides), (*range(-1, last), last, last))
            yield from (pair_line(pair, source) for pair in count_pairs(ReadTree(tree), PairSelection(), counts))
