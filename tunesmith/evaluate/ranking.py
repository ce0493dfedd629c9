"""Metrics of a reward model: how well scores agree with the ranks that the data give to replies. On plain arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BINS = 10


def ranking_metrics(scores: ArrayLike, group: ArrayLike, rank: ArrayLike) -> dict[str, float]:
    """Metrics of the scores of ranked replies.

    Args:
        scores: float [R], the score of each reply.
        group: int [R], replies to the same message share a group.
        rank: int [R], 0 is the best; equal ranks are ties.

    Pairs are all pairs of one group whose ranks differ. Groups without such a pair are left out.

    Returns:
        accuracy: share of a group's pairs in the right order, mean over groups; equal scores count as wrong.
        accuracy/pairs: share of all pairs in the right order.
        accuracy/best_worst: as accuracy, from the best and the worst reply of a group only, as OpenAssistant computes
            it (where ranks tie at an end, the mean over the pairs of the best and the worst).
        margin, score/chosen, score/rejected: of better and worse replies, mean over a group's pairs, then over groups.
            These and accuracy are the metrics of ``objectives.ranking`` in training.
        margin/best_worst, score/best, score/worst: the same of best and worst replies only.
        score/chosen_std, score/rejected_std: standard deviation over all pairs.
        kendall_tau, spearman: agreement of scores and ranks in a group, -1 to 1, mean over groups.
        calibration_error: see ``calibration_error``.
        groups, pairs: their numbers. Without any pair nothing else is returned.
    """
    values, groups, ranks = np.asarray(scores, np.float64), np.asarray(group, np.int64), np.asarray(rank, np.int64)
    members = [found for found in _members(groups) if len(np.unique(ranks[found])) > 1]
    if not members:
        return {"groups": 0.0, "pairs": 0.0}
    each = [_group_metrics(values[found], ranks[found]) for found in members]
    pairs = [_pairs(ranks[found]) for found in members]
    chosen = np.concatenate([values[found[better]] for found, (better, _) in zip(members, pairs, strict=True)])
    rejected = np.concatenate([values[found[worse]] for found, (_, worse) in zip(members, pairs, strict=True)])
    return {
        **{name: float(np.mean([metrics[name] for metrics in each])) for name in each[0]},
        "accuracy/pairs": float(np.mean(chosen > rejected)),
        "score/chosen_std": float(chosen.std()),
        "score/rejected_std": float(rejected.std()),
        "calibration_error": calibration_error(chosen - rejected),
        "groups": float(len(members)),
        "pairs": float(len(chosen)),
    }


def _members(groups: Integers) -> list[Integers]:
    """For every group the indices of its replies."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return [found.astype(np.int64) for found in np.split(order, starts[1:])] if len(order) else []


def _pairs(ranks: Integers) -> tuple[Integers, Integers]:
    """The indices (better, worse), int64 [P] each, of all pairs of a group whose ranks [R] differ."""
    better, worse = np.nonzero(ranks[:, None] < ranks[None, :])
    return better, worse


def _group_metrics(scores: Floats, ranks: Integers) -> dict[str, float]:
    """The metrics of one group with scores [R] and ranks [R]."""
    better, worse = _pairs(ranks)
    margins = scores[better] - scores[worse]
    best, worst = scores[ranks == ranks.min()], scores[ranks == ranks.max()]
    return {
        "accuracy": float(np.mean(margins > 0)),
        "accuracy/best_worst": float(np.mean(best[:, None] > worst[None, :])),
        "margin": float(margins.mean()),
        "score/chosen": float(scores[better].mean()),
        "score/rejected": float(scores[worse].mean()),
        "margin/best_worst": float(best.mean() - worst.mean()),
        "score/best": float(best.mean()),
        "score/worst": float(worst.mean()),
        "kendall_tau": kendall_tau(scores, -ranks.astype(np.float64)),
        "spearman": spearman(scores, -ranks.astype(np.float64)),
    }


def kendall_tau(one: Floats, other: Floats) -> float:
    """Kendall's tau-b of two float arrays [R], -1 to 1 (Kendall 1945, "The treatment of ties in ranking problems").

    Concordant pairs less discordant pairs, over the geometric mean of the numbers of pairs that each array does not
    tie. 0 where one of them ties everything, since it has no order then.
    """
    first, second = np.sign(one[:, None] - one[None, :]), np.sign(other[:, None] - other[None, :])
    untied = float(np.abs(first).sum()) * float(np.abs(second).sum())
    return float((first * second).sum()) / untied**0.5 if untied else 0.0


def spearman(one: Floats, other: Floats) -> float:
    """Spearman's rho of two float arrays [R], -1 to 1 (Spearman 1904): the correlation of their ranks.

    Tied values have the mean of their ranks. 0 where one of the arrays ties everything.
    """
    first, second = _ranks(one), _ranks(other)
    first, second = first - first.mean(), second - second.mean()
    size = float((first**2).sum()) * float((second**2).sum())
    return float((first * second).sum()) / size**0.5 if size else 0.0


def _ranks(values: Floats) -> Floats:
    """[R] the rank of each value in ascending order; equal values have the mean of their ranks."""
    below = (values[None, :] < values[:, None]).sum(1)
    equal = (values[None, :] == values[:, None]).sum(1)
    return np.asarray(below + (equal - 1) / 2.0, np.float64)


def calibration_error(margins: ArrayLike, bins: int = BINS) -> float:
    """How far the probability that a reward model gives its choice, sigma(|margin|), is from the share that is right.

    Expected calibration error, 0 to 1 (Guo et al. 2017, "On calibration of modern neural networks"), over ``bins``
    equal parts of [1/2, 1].
    margins: float [P], the score of the better reply less that of the worse; a margin of 0 counts as half right. The
        error is NaN if one of them is.
    """
    values = np.asarray(margins, np.float64)
    if not len(values):
        return 0.0
    if np.isnan(values).any():
        return math.nan
    confidence = 1.0 / (1.0 + np.exp(-np.abs(values)))
    right = (np.sign(values) + 1.0) / 2.0
    place = np.minimum(((confidence - 0.5) * 2.0 * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))
