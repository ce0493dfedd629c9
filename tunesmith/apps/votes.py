"""Blind votes of a comparison page, as preference pairs: the reply that was preferred, and the other one.

A file of votes is ``{"format": "tunesmith votes", "version": 1, "votes": [{"prompt", "left", "right", "verdict"}]}``.
``prompt`` is the digest of a prompt with its messages; ``left`` and ``right`` are ``{"report", "configuration",
"sample"}`` with the digest of a report. The texts are those of the reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tunesmith.apps.compare import open_report, places_of_prompts, samples_of
from tunesmith.apps.preference_pairs import pair_line
from tunesmith.apps.preferences import PairCounts, PairReport, PairSelection, count_pairs, write_pairs
from tunesmith.apps.prompt_additions import PromptAddition
from tunesmith.apps.sampling_reports import SamplingReport, report_key
from tunesmith.data.dataset.faults import STRICT, FaultLog
from tunesmith.data.readers.reader import Filtered, ReadResult, ReadTree
from tunesmith.errors import DataError
from tunesmith.files import check_no_input, read_object
from tunesmith.recipe.data import source_name
from tunesmith.text.tree import Message, Tree
from tunesmith.text.visible import visible

VOTES_FORMAT = "tunesmith votes"
ADVICE = "save the votes again on the page of `tunesmith compare`"
UNDECIDED: Mapping[str, str] = {"tie": "tie", "both_bad": "both replies are bad"}
"""Verdict without a preferred reply -> the reason why it gives no pair."""


@dataclass(frozen=True, slots=True)
class VotedReply:
    """A reply that was voted on. report: digest; configuration: its name on the page; sample: its number."""

    report: str
    configuration: str
    sample: int


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote. prompt: digest; verdict: left, right, tie or both_bad; place: file and number of the vote."""

    prompt: str
    left: VotedReply
    right: VotedReply
    verdict: str
    place: str


def read_votes(path: Path) -> list[Vote]:
    """The votes in a file. Raises MissingInputError, DataError."""
    content = read_object(path, advice=ADVICE)
    votes = content.get("votes")
    if content.get("format") != VOTES_FORMAT or not isinstance(votes, list):
        raise DataError("this is not a file of votes", where=path, advice=ADVICE)
    return [_vote(value, f"{path}: votes[{number}]") for number, value in enumerate(votes)]


def build_vote_preferences(
    paths: Sequence[Path], reports: Sequence[Path], output: Path, selection: PairSelection, name: str | None = None
) -> PairReport:
    """Write a pair for every decided vote to a new file that appears when it is complete.

    Votes on other reports, ties and votes that both replies are bad are counted.

    paths: files of votes.
    reports: files of the sampling reports that were compared.
    output: the file.
    selection: which pairs are written; ``where`` and ``where_not`` do not apply.
    name: the source in every pair; by default it is derived from the path of the votes.
    Raises UsageError (the output is an input), DataError, MissingInputError (no pair at all), StorageError.
    """
    check_no_input(output, [*paths, *reports])
    found = {report_key(report): report for report in map(open_report, reports)}
    votes = [(name or source_name(str(path)), read_votes(path)) for path in paths]
    counts = {source: PairCounts() for source, _ in votes}
    lines = (
        line for source, own in votes for line in _lines(vote_trees(own, found), source, selection, counts[source])
    )
    return write_pairs(lines, counts, output, selection, FaultLog(STRICT))


def vote_trees(votes: Sequence[Vote], reports: Mapping[str, SamplingReport]) -> Iterator[ReadResult]:
    """Every vote as a prompt with two ranked replies, or the reason why it is none.

    reports: by their digests.
    """
    places = {key: places_of_prompts(report) for key, report in reports.items()}
    for vote in votes:
        left, right = (
            _find(reply, reports.get(reply.report), places.get(reply.report, {}).get(vote.prompt, ()))
            for reply in (vote.left, vote.right)
        )
        if vote.verdict in UNDECIDED:
            yield Filtered(UNDECIDED[vote.verdict])
        elif left is None or right is None:
            yield Filtered("not a reply of these reports")
        elif left.addition != right.addition:
            yield Filtered("the replies answer different system messages or profiles")
        else:
            ranks = (0, 1) if vote.verdict == "left" else (1, 0)
            asked = left.addition.messages(left.asked)
            last = len(asked) - 1
            replies = [each.addition.reply(each.text, rank) for each, rank in zip((left, right), ranks, strict=True)]
            yield ReadTree(Tree((*asked, *replies), (*range(-1, last), last, last), vote.place))


class _FoundReply(NamedTuple):
    """A reply of a report: the messages of its prompt, what its configuration adds to them, and its text."""

    asked: tuple[Message, ...]
    addition: PromptAddition
    text: str


def _find(reply: VotedReply, report: SamplingReport | None, places: Sequence[int]) -> _FoundReply | None:
    """The reply that was voted on; None if the report does not have it. places: of its prompt in the report."""
    if report is None:
        return None
    names = [name for place in places for name in report.prompts[place].outputs if visible(name) == reply.configuration]
    for number, (place, index) in enumerate(samples_of(report, places, names[0]) if names else ()):
        if number == reply.sample:
            found = report.prompts[place]
            return _FoundReply(found.conversation, report.addition(names[0]), found.outputs[names[0]][index])
    return None


def _lines(results: Iterator[ReadResult], source: str, selection: PairSelection, counts: PairCounts) -> Iterator[bytes]:
    for result in results:
        if isinstance(result, Filtered):
            counts.reject(result.reason)
        else:
            yield from (pair_line(pair, source) for pair in count_pairs(result, selection, counts))


def _vote(value: Any, place: str) -> Vote:
    if not isinstance(value, dict):
        raise DataError("this is not an object", where=place, advice=ADVICE)
    prompt, verdict = value.get("prompt"), value.get("verdict")
    if not isinstance(prompt, str) or verdict not in ("left", "right", *UNDECIDED):
        raise DataError("a vote needs a prompt, and a verdict left, right, tie or both_bad", where=place, advice=ADVICE)
    return Vote(prompt, _reply(value.get("left"), place), _reply(value.get("right"), place), str(verdict), place)


def _reply(value: Any, place: str) -> VotedReply:
    report, configuration, sample = (
        value.get(name) if isinstance(value, dict) else None for name in ("report", "configuration", "sample")
    )
    if not isinstance(report, str) or not isinstance(configuration, str) or type(sample) is not int:
        what = "left and right need a report, a configuration and a sample"
        raise DataError(what, where=place, advice=ADVICE)
    return VotedReply(report, configuration, sample)
