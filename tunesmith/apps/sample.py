"""`tunesmith sample`: the replies of models to a list of prompts, as sampling reports."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tunesmith import __version__
from tunesmith.apps.finished_reports import check_unique, find_finished, journal_path, model_name, request_inputs
from tunesmith.apps.model_opening import check_models, silence_libraries
from tunesmith.apps.printed_commands import command_lines
from tunesmith.apps.prompt_additions import PromptAddition, addition_fields
from tunesmith.apps.report_summary import summarize_report
from tunesmith.apps.report_writing import ConfigurationOutputs, PromptOutputs, name_tail, report_name, report_text
from tunesmith.apps.sample_journal import JournalReply, ReplyJournal, ReplyPlace
from tunesmith.apps.sample_models import OPENERS, SampledModel
from tunesmith.apps.sample_plan import (
    EffectiveConfiguration,
    PromptEncoder,
    ReplyPlan,
    effect_lines,
    end_tokens,
    format_encoder,
    missing_replies,
    mode_encoder,
    plan_replies,
    read_effects,
    reply_output,
)
from tunesmith.apps.sample_prompts import SamplePrompt, read_sample_prompts
from tunesmith.apps.sampling_reports import read_report
from tunesmith.apps.shared_command import SharedCommand, shared_command
from tunesmith.compose.manifest import code_digest, package_versions
from tunesmith.compose.progress import show_progress
from tunesmith.errors import MissingInputError, StoppedError
from tunesmith.files import fingerprint, write_file
from tunesmith.generate.requests import ReplyRequest, deal_requests
from tunesmith.generate.sampling_configurations import open_sampling_file, with_limit
from tunesmith.launch import check_alone, launched_process
from tunesmith.report.sampling_summary import (
    ConfigurationSummary,
    SampledText,
    note_lines,
    summarize_samples,
    table_lines,
)
from tunesmith.text.visible import visible
from tunesmith.train.run.signals import StopSignals

LISTED = 5
"""How many refused prompts are printed one by one; the report has all of them."""


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What is sampled, apart from the models.

    prompts: a file, or the name of a built-in set.
    sampling: files of sampling configurations, see ``open_sampling_file``.
    samples: replies to a prompt with each configuration; one where it is greedy.
    seed: of the random draws.
    mode: a prompt mode of the original; None for the prompt format of the model.
    limit: how many prompts are used; None for all.
    max_new_tokens: replaces that of every configuration; None leaves it.
    format: the prompt format of the models that do not declare one.
    batch_size: replies that are generated together; it changes no reply.
    engine: what generates, a key of ``OPENERS``.
    """

    prompts: str
    sampling: Sequence[str] = ("noprefix",)
    samples: int = 2
    seed: int = 42
    mode: str | None = None
    limit: int | None = None
    max_new_tokens: int | None = None
    format: str | None = None
    batch_size: int = 32
    engine: str = "tunesmith"


@dataclass(frozen=True, slots=True)
class ReportTask:
    """One report that is to be written.

    model: whose replies they are.
    prompts: of the settings.
    stem: the name of the file of sampling configurations.
    configurations: of that file.
    settings: of the call.
    directory: where the report and its journal are written.
    date: of a new report, in ISO 8601 without a time zone.
    """

    model: SampledModel
    prompts: Sequence[SamplePrompt]
    stem: str
    configurations: Sequence[EffectiveConfiguration]
    settings: SampleSettings
    directory: Path
    date: str

    @property
    def journal(self) -> Path:
        """The file of the replies that are finished."""
        return journal_path(self.directory, self.model.name, self.stem)

    def inputs(self) -> dict[str, Any]:
        """Everything that decides the replies, by the words of messages."""
        renderer, identity = self.model.generator.renderer, self.model.identity
        return {
            "model": identity["model"],
            "tokenizer": renderer.tokenizer.fingerprint,
            "prompt format": [renderer.format.name, asdict(renderer.format), self.settings.mode],
            "sampling configurations": fingerprint([asdict(each) for each in self.configurations]),
            **request_inputs(self.prompts, self.settings.samples, self.settings.seed),
            "device": identity["device"],
            "code": code_digest(),
            "package versions": fingerprint(package_versions()),
        }


def run(
    models: Sequence[str],
    settings: SampleSettings,
    directory: Path,
    *,
    target: TextIO | None = None,
    errors: TextIO | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(tzinfo=None),
) -> list[Path]:
    """Sample replies and write a report for every model and file of sampling configurations; returns their paths.

    Several processes share the replies, and the first one prints and writes.

    Args:
        models: directories of runs or models.
        settings: what is sampled.
        directory: where the reports are written.
        target: where the summaries are printed (standard output).
        errors: where notices are printed (standard error).
        now: the time of a new report, UTC without a time zone.

    Raises UsageError, MissingInputError, DataError, StorageError, LockedError, and StoppedError after a signal.
    """
    check_engine(settings.engine)
    with shared_command(target, errors) as command:
        return sample_models(models, settings, directory, command, now)


def check_engine(name: str) -> None:
    """Raises UsageError for several processes with vLLM, which divides its work by itself."""
    if name != "tunesmith":
        check_alone(f"sample --engine {name}", launched_process(os.environ))


def sample_models(
    models: Sequence[str],
    settings: SampleSettings,
    directory: Path,
    command: SharedCommand,
    now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(tzinfo=None),
) -> list[Path]:
    """As ``run``, in processes that are joined already; all of them return the paths."""
    silence_libraries()
    names = [model_name(path) for path in models]
    check_unique(names, "models", "sample them one by one, with another -o", lambda name: name_tail(name, ""))
    files = [with_limit(open_sampling_file(name), settings.max_new_tokens) for name in settings.sampling]
    check_unique([file.stem for file in files], "files of sampling configurations", "rename one of them")
    effects = [(file.stem, read_effects(file)) for file in files]
    prompts = read_sample_prompts(settings.prompts, settings.limit)
    command.note(f"{_count(len(prompts), 'prompt')} of {settings.prompts}")
    command.note(*(line for stem, configurations in effects for line in effect_lines(stem, configurations)))
    with command.preparation():
        formats = check_models(models, settings.format, command.note)
    paths, summaries = list[Path](), list[ConfigurationSummary]()
    for path, name, format in zip(models, names, formats, strict=True):
        opening = partial(OPENERS[settings.engine], name, path, format, command.note)
        for report, summary in _sample_model(opening, prompts, effects, settings, directory, command, now):
            paths.append(report)
            summaries += summary
    print("\n" + "\n".join(note_lines(summaries)), file=command.screen)
    compare = command_lines(["tunesmith", "compare", *paths, ("-o", "page.html")])
    print("\n".join(["", "compare the replies:", *map(visible, compare)]), file=command.screen)
    return paths


def _sample_model(
    opening: Callable[[], SampledModel],
    prompts: Sequence[SamplePrompt],
    effects: Sequence[tuple[str, Sequence[EffectiveConfiguration]]],
    settings: SampleSettings,
    directory: Path,
    command: SharedCommand,
    now: Callable[[], datetime],
) -> Iterator[tuple[Path, list[ConfigurationSummary]]]:
    """(path, summary) of every report of a model, whose memory is free afterwards: the next one may need all of it.

    opening: opens the model.
    effects: (stem of the file, its configurations), for every report.
    """
    with command.preparation():
        model = opening()
    with closing(model):
        if model.generator.notice is not None:
            command.note(model.generator.notice)
        for stem, configurations in effects:
            task = ReportTask(model, prompts, stem, configurations, settings, directory, now().isoformat())
            report, summary = _write_report(task, command)
            for line in table_lines(summary):
                print(visible(line), file=command.screen)
            yield report, summary


def _write_report(task: ReportTask, command: SharedCommand) -> tuple[Path, list[ConfigurationSummary]]:
    """Sample what a report needs, or continue with it, and write it; returns its path and the summary of its replies.

    The summary of a report that was there already is that of its text, without numbers of tokens. Processes other than
    the first have no summary.
    """
    world, inputs = command.world, task.inputs()
    finished = world.gather(_find_finished(task, inputs) if world.is_first else None)[0]
    if finished is not None:
        print(visible(f"\n{finished} has these replies already"), file=command.screen)
        report = read_report(Path(finished)) if world.is_first else None
        return Path(finished), [] if report is None else summarize_report(report)
    plan = _plan(task)
    _print_refused(plan, len(task.prompts), command.log)
    path, summary = None, list[ConfigurationSummary]()
    if world.is_first:
        with ReplyJournal(task.journal, task.date, inputs) as journal:
            _sample(task, plan, journal, command)
            path = task.directory / report_name(task.model.name, journal.date, task.stem)
            write_file(path, _text(task, plan, journal, inputs))
            journal.remove()
        summary = summarize_samples(_samples(task, plan, journal.replies))
    else:
        _sample(task, plan, None, command)
    written = Path(world.gather(str(path))[0])
    print(visible(f"\nwrote {written}"), file=command.screen)
    return written, summary


def _find_finished(task: ReportTask, inputs: Mapping[str, Any]) -> str | None:
    """The report, if it is there already."""
    if task.journal.exists():
        return None
    found = find_finished(task.directory, task.model.name, task.stem, inputs, task.date)
    return None if found is None else str(found)


def _plan(task: ReportTask) -> ReplyPlan:
    """The replies of the report. Raises MissingInputError if no prompt is left."""
    settings, renderer = task.settings, task.model.generator.renderer
    encode: PromptEncoder = format_encoder(renderer) if settings.mode is None else mode_encoder(renderer, settings.mode)
    plan = plan_replies(
        task.model.generator, encode, task.prompts, task.configurations, settings.samples, settings.seed
    )
    if not plan.prompts:
        first = plan.refused[0]
        what = f"the model can read none of the prompts with {task.stem}: {first.reason}"
        raise MissingInputError(what, where=first.place, advice="choose other prompts, --sampling or --mode")
    return plan


def _sample(task: ReportTask, plan: ReplyPlan, journal: ReplyJournal | None, command: SharedCommand) -> None:
    """Generate the replies that the journal does not have, each in one of the processes.

    journal: in the first process. Raises StoppedError after a signal.
    """
    world, total = command.world, len(plan.replies)
    present = world.gather(None if journal is None else list(journal.replies))[0]
    if present:
        print(f"continuing: {len(present):,} of {total:,} replies are there already", file=command.log)
    places = missing_replies(plan, {ReplyPlace(*place) for place in present})
    requests, done = list(places), len(present)
    own = deal_requests(requests, world.size)[world.rank]
    began, tokens = time.monotonic(), 0
    title = visible(f"sampling {task.model.name}")
    with StopSignals() as signals, show_progress(title, shown=world.is_first) as progress:
        progress(done, total, _count(total, "reply"))
        finished = _finished_replies(task, requests, own)
        for number, output, end, length in world.collect(finished, lambda: signals.received() is not None):
            assert journal is not None, "only the first process receives replies"
            for place in places[requests[number]]:
                journal.append(place, JournalReply(output, end, length))
            done, tokens = len(journal.replies), tokens + length
            speed = tokens / max(time.monotonic() - began, 1e-9)
            progress(done, total, f"{done:,} of {_count(total, 'reply')}, {speed:,.0f} tokens/s")
        name, done = world.agree(signals.received()), world.gather(done)[0]
    if name is not None and done < total:
        what = f"stopped by {name}; {done:,} of {total:,} replies are kept"
        raise StoppedError(what, advice="give the same command again to continue")


def _finished_replies(
    task: ReportTask, requests: Sequence[ReplyRequest], own: Sequence[int]
) -> Iterator[tuple[int, str, int, int]]:
    """(number of the request, output, end, tokens) of the replies of this process. own: the numbers of its requests."""
    generator, raw = task.model.generator, task.settings.mode is not None
    for index, reply in generator.replies([requests[number] for number in own], task.settings.batch_size):
        output = reply_output(generator.renderer, reply, raw=raw)
        yield own[index], output.output, output.end, output.tokens


def _text(task: ReportTask, plan: ReplyPlan, journal: ReplyJournal, inputs: Mapping[str, Any]) -> str:
    """The content of the report."""
    outputs: dict[tuple[int, int], list[str]] = {}
    for place, _ in plan.replies:
        outputs.setdefault((place.prompt, place.configuration), []).append(journal.replies[place].output)
    prompts = [
        PromptOutputs(
            prompt.as_json(),
            [
                ConfigurationOutputs(each.configuration.name, each.configuration.generate_args, outputs[number, index])
                for index, each in enumerate(task.configurations)
            ],
        )
        for number, prompt in enumerate(plan.prompts)
    ]
    return report_text(task.model.name, journal.date, _args(task, plan, inputs), prompts)


def _args(task: ReportTask, plan: ReplyPlan, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """How the report was made: the arguments that the original has too, and then ours."""
    settings = task.settings
    return {
        "model_name": task.model.name,
        "mode": settings.mode,
        "prompts": Path(settings.prompts).name,
        "seed": settings.seed,
        "n": settings.limit,
        "num_samples": settings.samples,
        "config": task.stem,
        "skip_special_tokens": False,
        "program": f"tunesmith {__version__}",
        "engine": task.model.engine,
        "fingerprint": task.model.fingerprint,
        "format": task.model.generator.renderer.format.name,
        "end_tokens": end_tokens(task.model.generator.renderer),
        "effective_sampling_params": {
            each.configuration.name: asdict(each.sampling.parameters) for each in task.configurations
        },
        **addition_fields(
            {
                each.configuration.name: PromptAddition.of(each.configuration, settings.mode)
                for each in task.configurations
            }
        ),
        "refused_prompts": [{"line": _line(each.place), "reason": each.reason} for each in plan.refused],
        "inputs": dict(inputs),
    }


def _samples(
    task: ReportTask, plan: ReplyPlan, replies: Mapping[ReplyPlace, JournalReply]
) -> dict[str, list[list[SampledText]]]:
    """Name of a configuration -> for every prompt the replies to it, for the summary."""
    found: dict[str, list[list[SampledText]]] = {
        each.configuration.name: [[] for _ in plan.prompts] for each in task.configurations
    }
    for place, _ in plan.replies:
        reply, name = replies[place], task.configurations[place.configuration].configuration.name
        found[name][place.prompt].append(SampledText(reply.text, reply.end > 0, reply.tokens))
    return found


def _print_refused(plan: ReplyPlan, total: int, log: TextIO) -> None:
    if not plan.refused:
        return
    print(f"{len(plan.refused):,} of {_count(total, 'prompt')} get no replies:", file=log)
    for each in plan.refused[:LISTED]:
        print(visible(f"  {each.place}: {each.reason}"), file=log)
    if len(plan.refused) > LISTED:
        print(f"  and {len(plan.refused) - LISTED:,} more, which the report lists (refused_prompts)", file=log)


def _line(place: str) -> str:
    """The place in a file without the name of the file."""
    return place.rpartition(":")[2]


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
