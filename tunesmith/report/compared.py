"""What is compared: models, prompts and the replies of the models to them, and what they have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile

from tunesmith.report.reply_faults import has_control_text, has_loop


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One sampling report.

    label: a short name that no other model of the comparison has.
    name: the name of the model in the report.
    file: the name of the report's file.
    date: of the report; may be empty.
    key: a digest of the report's content; votes refer to it.
    parameters: sampling configuration -> its parameters, as text.
    repeated: how many prompts of the report repeat an earlier one; their replies count as replies to that one.
    """

    label: str
    name: str
    file: str
    date: str
    key: str
    parameters: Mapping[str, str]
    repeated: int = 0

    def remark(self) -> str:
        """What is said about repeated prompts; empty without any."""
        if not self.repeated:
            return ""
        repeat = "1 prompt repeats an earlier one" if self.repeated == 1 else f"{self.repeated:,} prompts repeat others"
        return f"{repeat}; the replies count as replies to one prompt"


@dataclass(frozen=True, slots=True)
class ComparedReply:
    """One reply.

    model: its index in the comparison.
    configuration: the name of the sampling configuration.
    sample: the number of the reply among those of this model and configuration to the prompt.
    text: without end tokens.
    ended: whether the model ended the reply by itself; None where its report does not show it.
    reward: the score of a reward model, if there is one.
    loop, control: faults, see ``report.reply_faults``.
    """

    model: int
    configuration: str
    sample: int
    text: str
    ended: bool | None
    reward: float | None
    loop: bool
    control: bool

    @classmethod
    def of(
        cls, model: int, configuration: str, sample: int, text: str, ended: bool | None, reward: float | None = None
    ) -> ComparedReply:
        """A reply whose faults are found in its text."""
        return cls(model, configuration, sample, text, ended, reward, has_loop(text), has_control_text(text))


@dataclass(frozen=True, slots=True)
class ComparedPrompt:
    """A prompt with the replies of all models, in the order of models and configurations.

    key: a digest of the prompt, also of its messages and tools; votes refer to it.
    """

    text: str
    key: str
    replies: tuple[ComparedReply, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sampling reports next to each other.

    models: at least one.
    configurations: the names of all sampling configurations, in the order of the reports.
    prompts: every prompt of any report, once.
    reward_model: that gave the rewards; empty without rewards.
    """

    models: tuple[ComparedModel, ...]
    configurations: tuple[str, ...]
    prompts: tuple[ComparedPrompt, ...]
    reward_model: str = ""

    def configurations_of(self, model: int) -> list[str]:
        """The sampling configurations of one model."""
        found = {reply.configuration for prompt in self.prompts for reply in prompt.replies if reply.model == model}
        return [name for name in self.configurations if name in found]

    def shared_prompts(self) -> int:
        """How many prompts every model has replies to."""
        return sum(len({reply.model for reply in prompt.replies}) == len(self.models) for prompt in self.prompts)


def unique_labels(names: Sequence[tuple[str, str]]) -> list[str]:
    """A short label for every (model name, file): the name without its owner, if that is enough to distinguish them.

    Otherwise the whole name, followed by what distinguishes the files where several reports are of one model, and by a
    number where the files have the same name too.
    """
    models = [name for name, _ in names]
    short = [name.rstrip("/").rpartition("/")[2] or name for name in models]
    if len(set(models)) > len(set(short)):
        short = models
    parts = {
        label: distinguishing_parts([file for other, (_, file) in zip(short, names, strict=True) if other == label])
        for label in set(short)
    }
    labels: list[str] = []
    for label, (_, file) in zip(short, names, strict=True):
        wanted = f"{label} ({parts[label][file]})" if short.count(label) > 1 else label
        copies = (f"{wanted} {number}" for number in count(2))
        labels.append(wanted if wanted not in labels else next(copy for copy in copies if copy not in labels))
    return labels


def distinguishing_parts(files: Sequence[str]) -> dict[str, str]:
    """Name of a file -> the part of it that the others have not.

    Names are split before ``/``, ``_`` and ``.``; the parts that all of them begin or end with are left out, as long as
    something is left of every name: ``2026-11-29_mine_sampling_own.json`` becomes ``own``.
    """
    split = {file: re.split(r"(?=[/_.])", file) for file in files}
    if len(split) < 2:
        return {file: file for file in files}
    first = _shared_start(list(split.values()))
    last = _shared_start([parts[first:][::-1] for parts in split.values()])
    if any(len(parts) == first + last for parts in split.values()):
        first, last = (first - 1, last) if first else (first, last - 1)
    found = {file: "".join(parts[first : len(parts) - last]).strip("/_.") for file, parts in split.items()}
    return found if len(set(found.values())) == len(found) else {file: file for file in files}


def _shared_start(sequences: Sequence[Sequence[str]]) -> int:
    """How many elements all sequences begin with."""
    heads = zip(*sequences, strict=False)
    return sum(1 for _ in takewhile(lambda head: len(set(head)) == 1, heads))
