"""How well scores agree with rankings: the measures of a reward model, from arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BINS = 10


def ranking_metrics(scores: ArrayLike, group: ArrayLike, rank: ArrayLike) -> dict[str, float]:
    """Measures of the scores [R] of replies whose groups [R] and ranks [R] (0 best, equal for ties) are known.

    Pairs are all pairs of one group whose ranks differ; groups without one are left out.

    accuracy: share of a group's pairs in order, mean over groups; a tie of scores counts as wrong.
    accuracy/pairs: share of all pairs in order. accuracy/best_worst: of the pairs of a group's best and worst reply only, as
    OpenAssistant's (where ranks tie at an end, the mean over the pairs of the best and the worst).
    margin, score/chosen, score/rejected: of better and worse replies, mean over a group's pairs, then over groups. These and
    accuracy are what ``objectives.ranking`` measures in training.
    margin/best_worst, score/best, score/worst: the same of best and worst replies only.
    score/chosen_std, score/rejected_std: standard deviation over all pairs.
    kendall_tau, spearman: agreement of scores and ranks in a group, mean over groups.
    calibration_error: see ``calibration_error``. groups, pairs: how many there are; with none, nothing else is measured.
    """
    values, groups, ranks = np.asarray(scores, np.float64), np.asarray(group, np.int64), np.asarray(rank, np.int64)
    members = [found for found in _members(groups) if len(np.unique(ranks[found])) > 1]
    if not members:
        return {"groups": 0.0, "pairs": 0.0}
    each = [_of_group(values[found], ranks[found]) for found in members]
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
    """The places of the replies of every group."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return [found.astype(np.int64) for found in np.split(order, starts[1:])] if len(order) else []


def _pairs(ranks: Integers) -> tuple[Integers, Integers]:
    """(better, worse) of all pairs of a group whose ranks differ."""
    better, worse = np.nonzero(ranks[:, None] < ranks[None, :])
    return better, worse


def _of_group(scores: Floats, ranks: Integers) -> dict[str, float]:
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
    """Kendall's tau-b (Kendall 1945): pairs in the same order less pairs in opposite order, over the geometric mean of the
    pairs that one and the other do not tie. 0 where one of them ties everything: it says nothing about the order."""
    first, second = np.sign(one[:, None] - one[None, :]), np.sign(other[:, None] - other[None, :])
    untied = float(np.abs(first).sum()) * float(np.abs(second).sum())
    return float((first * second).sum()) / untied**0.5 if untied else 0.0


def spearman(one: Floats, other: Floats) -> float:
    """Spearman's rho: the correlation of the ranks, those of a tie being their mean. 0 where one of them ties everything."""
    first, second = _ranks(one), _ranks(other)
    first, second = first - first.mean(), second - second.mean()
    size = float((first**2).sum()) * float((second**2).sum())
    return float((first * second).sum()) / size**0.5 if size else 0.0


def _ranks(values: Floats) -> Floats:
    """[R] the place of each value in ascending order, the mean of the places where values are equal."""
    below = (values[None, :] < values[:, None]).sum(1)
    equal = (values[None, :] == values[:, None]).sum(1)
    return np.asarray(below + (equal - 1) / 2.0, np.float64)


def calibration_error(margins: ArrayLike, bins: int = BINS) -> float:
    """How far the probability that a reward model gives its choice, sigma(|margin|), is from the share that is right.

    margins: [P], how much higher the better reply scores. Expected calibration error (Guo et al. 2017) over ``bins`` equal
    parts of [1/2, 1]; a margin of 0 is right by half.
    """
    values = np.asarray(margins, np.float64)
    if not len(values):
        return 0.0
    confidence = 1.0 / (1.0 + np.exp(-np.abs(values)))
    right = (np.sign(values) + 1.0) / 2.0
    place = np.minimum(((confidence - 0.5) * 2.0 * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))
