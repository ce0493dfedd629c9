"""The composition root of training: the only place where a whole recipe meets the parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from tunesmith.compose.best import selection_rule, take_best
from tunesmith.compose.components.data import prepare_data
from tunesmith.compose.components.optimizer import build_optimizer, build_schedule
from tunesmith.compose.components.steps import build_draws
from tunesmith.compose.components.tokenizer import build_renderer, format_options
from tunesmith.compose.manifest import manifest
from tunesmith.compose.methods.method import RunContext, TrainingSetup
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.models import families
from tunesmith.compose.progress import show_progress
from tunesmith.compose.proof import check_no_failures
from tunesmith.compose.reply_evaluation import reply_evaluation
from tunesmith.data.dataset.faults import QUARANTINE
from tunesmith.files import write_file
from tunesmith.model.export import ExportInfo, export
from tunesmith.recipe.load import Loaded, dump
from tunesmith.recipe.schema import Recipe
from tunesmith.train.loop import Callback, train
from tunesmith.train.optim.optimizers import Optimizer
from tunesmith.train.run import checkpoint
from tunesmith.train.run.callbacks import Checkpointer, EvaluationCallback, Record, Scores, StopCallback
from tunesmith.train.run.directory import RunDirectory
from tunesmith.train.run.metrics import JsonLines, read_records
from tunesmith.train.run.selection import Selection, SelectionRule, replay
from tunesmith.train.run.signals import Signals
from tunesmith.train.run.trackers import Tracker, open_trackers
from tunesmith.train.run.view import View, open_view
from tunesmith.train.world import SingleProcess

MAY_DIFFER = (
    "about",
    "run",
    "sampling",
    "data.cache",
    "data.workers",
    "train.log_every",
    "train.stop_after",
    "train.keep",
)
"""Keys that may change when a run is continued: none of them has a part in the result."""


@dataclass(frozen=True, slots=True)
class Trained:
    """directory: the run. export: its Hugging Face directory. steps: optimizer steps in all."""

    directory: Path
    export: Path
    steps: int


def train_recipe(loaded: Loaded) -> Trained:
    """Run a recipe to its end, from wherever it stopped before. Raises the family of TunesmithError, StoppedError among them."""
    recipe = loaded.recipe
    families.find_family(recipe)
    _settle_torch(recipe)
    view = open_view(recipe.train.log_every)
    with RunDirectory.open(recipe.directory, dump(recipe), notice=view.note, may_differ=MAY_DIFFER) as run:
        setting = _setting(recipe, run, view)
        course = METHODS[recipe.objective.kind].setup(setting, recipe.objective)
        check_no_failures(course.proof)
        view.note(f"proof: {len(course.proof)} properties hold ({course.proof[0].summary})")
        run.record(
            manifest(recipe, setting.prepared, setting.evaluated, setting.tokenizer),
            view.note,
            may_differ=("hardware", "versions"),
        )
        if setting.prepared.quarantine is not None:
            write_file(run.path / QUARANTINE, setting.prepared.quarantine.read_bytes())
        try:
            _train(setting, course, view)
        finally:
            view.finish()
        _export(setting, len(course.steps), view)
        use = METHODS[recipe.objective.kind].use.format(run=_short(run.path))
        view.note(f"exported to {_short(run.export)}; {use}")
        return Trained(run.path, run.export, len(course.steps))


def _settle_torch(recipe: Recipe) -> None:
    """Settings of the process, the same for every start of a run."""
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    # Adam's moments of rare tokens decay into denormal numbers, with which a step takes many times as long.
    torch.set_flush_denormal(True)
    # The terminal belongs to the view; warnings of transformers about its own defaults help nobody here.
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _setting(recipe: Recipe, run: RunDirectory, view: View) -> RunContext[Any, Any]:
    """Everything that was made from the recipe before the method has its turn."""
    with show_progress("preparing data") as progress:
        prepared, evaluated = prepare_data(recipe, progress)
    draws = build_draws(recipe, prepared.train)
    for line in prepared.report.lines({draw.name: (draw.count, len(draw.examples)) for draw in draws}):
        view.note(line)
    for found in (prepared, evaluated):
        if found is not None and found.quarantine is not None:
            view.note(f"bad rows, left out: {found.quarantine}")
    renderer = build_renderer(recipe)
    tokenizer = renderer.tokenizer
    method = METHODS[recipe.objective.kind]
    model, (before, after) = method.build_model(recipe, recipe.objective, tokenizer)
    families.check_positions(recipe, model)
    learner = method.prepare_policy(recipe, model, tokenizer)
    count = sum(parameter.numel() for parameter in model.parameters())
    resized = f", embedding rows {before:,} -> {after:,}" if before != after else ""
    view.note(f"model: {type(model).__name__}, {count:,} parameters{resized}")
    view.note(f"self-test: layout {learner.layout}, largest difference from the stock model {learner.difference:.1e}")
    return RunContext(recipe, run, prepared, evaluated, tokenizer, renderer, model, after, learner, view.note)


def _train(setting: RunContext[Any, Any], course: TrainingSetup[Any, Any], view: View) -> None:
    recipe, run, total = setting.recipe, setting.run, len(course.steps)
    keys = recipe.train
    optimizer = build_optimizer(keys, course.policy, setting.model)
    found = checkpoint.newest(run.checkpoints, lambda text: view.note(f"WARNING {text}"))
    start = 0 if found is None else found.step
    with JsonLines(run.metrics) as metrics, JsonLines(run.consumed) as consumed, JsonLines(run.timing) as timing:
        record = Record(metrics, consumed, timing)
        if start == 0:
            _pass_gates(course, view)
        selection = _restore(found, course, optimizer, record, selection_rule(keys.best))
        if start == total:
            view.note(f"all {total:,} steps are done already")
            return
        course.resumed(start)
        trackers = open_trackers(recipe.run.trackers, run.path, recipe.model_dump(mode="json"), start)
        view.start(total, start, _facts(setting, total))
        evaluation = _evaluation(setting, course, record, selection, view, trackers)
        if evaluation is not None and start == 0:
            evaluation.run(0)
        saving = Checkpointer(_writer(setting, course, optimizer, view), keys.save_every, record, selection, start)
        with Signals() as signals:
            actions: list[Callback] = [record, view.step, *(_tracked(tracker) for tracker in trackers)]
            actions += [*course.callbacks, *([evaluation] if evaluation is not None else [])]
            actions += [saving, StopCallback(signals.requested, keys.stop_after, saving)]
            schedule = build_schedule(keys, total)
            try:
                train(
                    course.policy,
                    course.objective,
                    course.steps,
                    optimizer,
                    schedule,
                    SingleProcess(),
                    actions,
                    start=start,
                    clip_norm=keys.clip,
                )
            finally:
                for tracker in trackers:
                    tracker.close()


def _pass_gates(course: TrainingSetup[Any, Any], view: View) -> None:
    """What must hold before the first step, told. Raises InternalError if it does not."""
    gates = course.gates()
    check_no_failures(gates)
    for gate in gates:
        if gate.status == "warn":
            view.note(f"WARNING {gate.name}: {gate.summary}; {gate.advice}")
        else:
            view.note(f"gate: {gate.name} ({gate.summary})")


def _restore(
    found: checkpoint.Checkpoint | None,
    course: TrainingSetup[Any, Any],
    optimizer: Optimizer,
    record: Record,
    rule: SelectionRule,
) -> Selection:
    """Put weights, optimizer, record and choice where the checkpoint left them, or the record to its beginning."""
    if found is None:
        record.return_to({"metrics": 0, "consumed": 0})
        return Selection(rule)
    for name, module in course.modules.items():
        module.load_state_dict(found.load(name), strict=True)
    optimizer.load(found.load("optimizer"))
    record.return_to(found.state)
    return replay(read_records(record.metrics.path), rule)


def _evaluation(
    setting: RunContext[Any, Any],
    course: TrainingSetup[Any, Any],
    record: Record,
    selection: Selection,
    view: View,
    trackers: Sequence[Tracker],
) -> EvaluationCallback | None:
    if course.scores is None:
        return None
    recipe, run = setting.recipe, setting.run

    def show(step: int, found: Scores) -> None:
        view.validation(step, found)
        for tracker in trackers:
            tracker(
                step,
                {
                    f"validation/{name}/{measure}": value
                    for name, metrics in found.items()
                    for measure, value in metrics.items()
                },
            )

    def told(step: int, found: Mapping[str, float]) -> None:
        view.note(f"replies after step {step}: BLEU {found['bleu']:.2f}  ROUGE-L {found['rouge_l']:.3f}")
        for tracker in trackers:
            tracker(step, {f"validation/all/{name}": value for name, value in found.items()})

    keys, validation = recipe.train, setting.validation
    replies = None
    if validation is not None:
        replies = reply_evaluation(recipe, setting.learner.policy, setting.renderer, validation, run.path, told)
    return EvaluationCallback(
        course.scores, keys.evaluate_every, keys.save_every, record.metrics, show, selection, replies
    )


def _writer(setting: RunContext[Any, Any], course: TrainingSetup[Any, Any], optimizer: Optimizer, view: View) -> Any:
    run, recipe = setting.run, setting.recipe

    def write(step: int, state: Mapping[str, Any], pinned: Collection[int]) -> None:
        modules = {name: module.state_dict() for name, module in course.modules.items()}
        checkpoint.save(
            run.checkpoints, step, {**modules, "optimizer": optimizer.tensors()}, state, {"recipe": recipe.name}
        )
        checkpoint.rotate(run.checkpoints, recipe.train.keep, pinned, lambda text: view.note(f"WARNING {text}"))
        view.saved(step)

    return write


def _tracked(tracker: Tracker) -> Callback:
    def track(result: Any) -> None:
        tracker(
            result.done,
            {**result.metrics, "learning_rate": result.learning_rate, "gradient_norm": result.gradient_norm},
        )

    return track


def _facts(setting: RunContext[Any, Any], total: int) -> dict[str, str]:
    recipe, store = setting.recipe, setting.prepared.train
    keys = recipe.train
    tokens, targets = int(store.tokens.sum()), int(store.targets.sum())
    epochs = f"{keys.epochs:g} epochs" if keys.epochs is not None else f"{keys.steps:,} steps"
    return {
        "recipe": recipe.name,
        "data": f"{len(store):,} records, {tokens:,} tokens, {targets / tokens:.0%} of them targets",
        "plan": f"{epochs} = {total:,} steps of {keys.batch_size} {keys.batch_unit}",
        "run": str(_short(recipe.directory)),
    }


def _export(setting: RunContext[Any, Any], steps: int, view: View) -> None:
    recipe, run = setting.recipe, setting.run
    if recipe.run.export == "best":
        steps = take_best(run.path, run.checkpoints, setting.model, view.note)
    info = ExportInfo(
        format=recipe.text.format,
        options=format_options(recipe),
        max_length=recipe.text.max_length,
        sampling=recipe.sampling.model_dump(),
        base=recipe.model.path or "new",
        recipe=recipe.name,
        steps=steps,
        kind=METHODS[recipe.objective.kind].kind,
    )
    export(run.export, setting.model, setting.tokenizer, setting.renderer.format, info)


def _short(path: Path) -> Path:
    """The path as seen from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
