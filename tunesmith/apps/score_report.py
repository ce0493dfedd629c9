"""The scores of a sampling report: all replies to a prompt are scored as one tree; means by sampling configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tunesmith.apps.sampling_reports import SampledReplies, SamplingReport, report_key
from tunesmith.errors import DataError
from tunesmith.evaluate.reward_scorer import RewardScorer
from tunesmith.report.best_of import BestOfCurve, best_of_curve
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree
from tunesmith.world import ALONE, Communicator

ScoreTable: TypeAlias = list[dict[str, list[float | None]]]
"""For every prompt: sampling configuration -> the scores of its replies in their order, None where one was skipped."""


def report_scores(
    scorer: RewardScorer,
    report: SamplingReport,
    skip: bool,
    progress: Callable[[int, int], None],
    world: Communicator = ALONE,
) -> dict[str, Any]:
    """Score all replies of a report; returns the JSON object to write.

    results: sampling configuration -> the mean score of its replies.
    mean_reward: the mean over all replies.
    RM_score: the mean over the prompts of the score of the best reply (best-of-n).
    unscored: the number of replies that were skipped.
    scores: for every prompt, sampling configuration -> the scores of its replies, null where one was skipped.
    report_key: digest of the model, the prompts and the replies of the report.
    best_of: sampling configuration -> n -> the expected score of the best of n replies; where there are several.

    skip: leave out replies that cannot be scored.
    progress: called with (prompts done, prompts in all).
    world: the processes that share the work; all of them get all scores.
    Raises DataError for a reply that cannot be scored, unless ``skip``, and where no reply can be scored.
    """
    trees, places = list[TokenTree](), list[tuple[int, str, int]]()
    table: ScoreTable = [
        {name: [None] * len(outputs) for name, outputs in each.outputs.items()} for each in report.prompts
    ]
    for number, answers in enumerate(report.prompts):
        kept = _scorable(scorer, report, answers, f"{report.name}: prompts[{number}]", skip)
        for together in _by_conversation(report, kept):
            (tokens,) = scorer.render([_tree(report, answers, together)])
            assert isinstance(tokens, TokenTree), "each of its threads could be rendered"
            trees.append(tokens)
            places += [(number, name, index) for name, index in together]
    found = [score for each in scorer.scores(trees, progress, world) for score in each.threads]
    for (number, name, index), score in zip(places, found, strict=True):
        table[number][name][index] = score
    if not found:
        raise DataError("no reply of the report can be scored", where=report.name, advice="check its prompts")
    return _summary(scorer, report, table, found)


def report_curves(table: ScoreTable) -> dict[str, BestOfCurve]:
    """For every sampling configuration with several scored replies to a prompt, the curve of the best of n."""
    names = dict.fromkeys(name for scores in table for name in scores)
    prompts = {
        name: [[score for score in scores.get(name, ()) if score is not None] for scores in table] for name in names
    }
    return {name: curve for name in names if (curve := best_of_curve(prompts[name])) is not None}


def _scorable(
    scorer: RewardScorer, report: SamplingReport, answers: SampledReplies, place: str, skip: bool
) -> list[tuple[str, int]]:
    """(sampling configuration, index of the reply) of all replies that can be scored."""
    every = [(name, index) for name, outputs in answers.outputs.items() for index in range(len(outputs))]
    alone = scorer.render([_tree(report, answers, [reply], f"{place}, {reply[0]} {reply[1]}") for reply in every])
    for tokens in alone:
        if isinstance(tokens, DataError) and not skip:
            advice = f"{tokens.advice}; --skip leaves such replies out" if tokens.advice else "--skip leaves it out"
            raise DataError(tokens.what, where=tokens.where, advice=advice)
    return [reply for reply, tokens in zip(every, alone, strict=True) if isinstance(tokens, TokenTree)]


def _by_conversation(report: SamplingReport, replies: Sequence[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """The replies to one prompt in groups that answer the same system message."""
    found: dict[str, list[tuple[str, int]]] = {}
    for name, index in replies:
        found.setdefault(report.addition(name).pre_text, []).append((name, index))
    return list(found.values())


def _tree(report: SamplingReport, answers: SampledReplies, replies: Sequence[tuple[str, int]], place: str = "") -> Tree:
    """The conversation with these replies as its branches."""
    asked = report.addition(replies[0][0]).messages(answers.conversation)
    branches = [report.addition(name).reply(answers.outputs[name][index]) for name, index in replies]
    return Tree((*asked, *branches), (*range(-1, len(asked) - 1), *[len(asked) - 1] * len(branches)), place)


def _summary(scorer: RewardScorer, report: SamplingReport, table: ScoreTable, found: Sequence[float]) -> dict[str, Any]:
    by_setting: dict[str, list[float]] = {}
    best = []
    for scores in table:
        known = {name: [score for score in values if score is not None] for name, values in scores.items()}
        for name, values in known.items():
            by_setting.setdefault(name, []).extend(values)
        if any(known.values()):
            best.append(max(score for values in known.values() for score in values))
    curves = report_curves(table)
    return {
        "model_name": report.model,
        "results": {name: sum(values) / len(values) for name, values in by_setting.items() if values},
        "mean_reward": sum(found) / len(found),
        "RM_score": sum(best) / len(best),
        "reward_model": scorer.name,
        "report": report.name,
        "report_key": report_key(report),
        "unscored": sum(score is None for scores in table for values in scores.values() for score in values),
        "best_of": {name: {str(each.n): each.mean for each in curve.points} for name, curve in curves.items()},
        "scores": table,
    }
