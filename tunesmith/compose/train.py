"""Training: builds all parts of a run from its recipe, runs the loop, and exports the model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.batch.protocols import BatchT
from tunesmith.compose.best import best_of_run, load_best, load_step, selection_rule
from tunesmith.compose.components.format_choice import with_chosen_format
from tunesmith.compose.components.optimizer import build_optimizer, build_schedule
from tunesmith.compose.components.recognition import name_readers
from tunesmith.compose.components.run_lines import describe_plan, describe_proof
from tunesmith.compose.components.steps import count_epoch
from tunesmith.compose.components.tokenizer import check_start_format
from tunesmith.compose.methods.method import RunContext, TrainingSetup
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.models import families
from tunesmith.compose.models.adapted import rate_factor
from tunesmith.compose.models.base_identity import base_facts, check_base
from tunesmith.compose.plan_checks import check_space, plan_checks
from tunesmith.compose.preparation import prepare_run
from tunesmith.compose.process import configure_process
from tunesmith.compose.proof import PROVEN, check_no_failures
from tunesmith.compose.reply_evaluation import GeneratedReplies, generated_replies
from tunesmith.compose.run_export import export_model, load_checkpoint_model
from tunesmith.compose.run_journal import recorded_start
from tunesmith.compose.run_page import RunPage
from tunesmith.compose.run_start import open_run, record_run
from tunesmith.compose.sizing.start import check_before_loading, check_memory
from tunesmith.files import check_replaceable
from tunesmith.launch import launched_process
from tunesmith.model.adapters import trained_module
from tunesmith.model.devices import best_device
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.recipe.storage_conflicts import find_unused_storage
from tunesmith.recipe.training import period_in_steps
from tunesmith.report.check import Check
from tunesmith.train.loop import Callback, PolicyT, train
from tunesmith.train.optim.optimizers import Optimizer
from tunesmith.train.optim.schedules import Schedule
from tunesmith.train.processes import joined_processes
from tunesmith.train.run import checkpoint
from tunesmith.train.run.callbacks import (
    LEARNING_RATE,
    Checkpointer,
    EvaluationCallback,
    MetricsRecorder,
    PatienceCallback,
    ProgressCallback,
    StopCallback,
    TrackerCallback,
    open_recorder,
)
from tunesmith.train.run.checkpoint_files import Checkpoint
from tunesmith.train.run.history import open_shown
from tunesmith.train.run.metrics import RecordFile, read_records
from tunesmith.train.run.selection import CheckpointSelection
from tunesmith.train.run.signals import StopSignals
from tunesmith.train.run.status import present_time
from tunesmith.train.run.tracker_packages import check_trackers
from tunesmith.train.run.trackers import open_trackers
from tunesmith.train.run.trained import TrainedRun
from tunesmith.train.run.validation import STEP
from tunesmith.train.run.view import SilentView, View, open_view
from tunesmith.world import Communicator


def train_recipe(
    loaded: LoadedRecipe, *, command: Sequence[str] = (), callbacks: Sequence[Callback] = ()
) -> TrainedRun:
    """Run a recipe to its end; a run that was stopped continues from its last checkpoint.

    With torchrun or srun each of several processes calls it.

    command: the words of the command line, which are recorded.
    callbacks: called after every step, when its metrics are recorded.
    Raises any TunesmithError, among them StoppedError.
    """
    launched = launched_process(os.environ)
    sharded = families.shard_kind(loaded.recipe, launched.size) != "none"
    with joined_processes(launched, best_device, sharded=sharded) as world:
        return _train_recipe(loaded, world, command, callbacks)


def _train_recipe(
    loaded: LoadedRecipe, world: Communicator, command: Sequence[str], callbacks: Sequence[Callback]
) -> TrainedRun:
    began = present_time()
    method = METHODS[loaded.recipe.objective.kind]
    view = open_view(loaded.recipe.train.log_every, method.shown) if world.is_first else SilentView()
    chosen, reason = world.in_turn(lambda: with_chosen_format(name_readers(loaded, view.note).recipe))
    recipe = families.name_storage(chosen, world.size)
    check_trackers(recipe.run.trackers)
    families.find_family(recipe)
    check_start_format(recipe)
    configure_process(recipe)
    check_before_loading(recipe, world)
    for line in (reason, *find_unused_storage(chosen.train, adapted=chosen.model.adapter is not None)):
        if line:
            view.note(line)
    with world.in_turn(lambda: open_run(recipe, world, view)) as run:
        check_replaceable(run.export)
        context = prepare_run(recipe, run, view, world)
        setup = method.setup(context, recipe.objective)
        setup = replace(setup, callbacks=(*setup.callbacks, *callbacks))
        check_no_failures(setup.proof)
        records = [counts.records for counts in context.data.report.sources.values()]
        view.note(describe_proof(recipe, records, PROVEN))
        last = checkpoint.newest(run.checkpoints, view.warn, world)
        if run.is_owner:
            record_run(context, last, len(setup.steps), view)
        ended = last.step if last is not None and run.export.is_dir() else 0
        rule, proof = selection_rule(recipe.train.best), [*context.checks(), *setup.proof]
        world.barrier()
        done = 0 if last is None else last.step
        with (
            recorded_start(context, loaded.origins, command, began, done, view.warn),
            RunPage.of(run.path, rule, method.shown, view.warn, proof, writes=run.is_owner) as page,
        ):
            try:
                steps = _train(context, setup, last, view, page)
            finally:
                view.finish()
            if run.is_owner:
                _export(context, steps, view)
            world.barrier()
        if 0 < ended < steps:
            view.note(f"the run had ended after {ended:,} steps; it was continued to {steps:,}, and its export is new")
        view.note(method.use.format(run=_relative(run.path)))
        if page.path.is_file():
            view.note(f"curves and replies as a page: {_relative(page.path)}")
        return TrainedRun(run.path, run.export, steps)


def _train(
    context: RunContext[Any, Any],
    setup: TrainingSetup[PolicyT, BatchT],
    last: Checkpoint | None,
    view: View,
    page: RunPage,
) -> int:
    """Run the steps that are not done yet; returns the steps that are done at the end. last: the newest checkpoint."""
    keys, run, total = context.recipe.train, context.run, len(setup.steps)
    optimizer = _shard(context, setup)
    start, schedule = 0 if last is None else last.step, build_schedule(keys, total, rate_factor(context.recipe.model))
    with open_recorder(run) as recorder, open_shown(run.shown, start, writes=run.is_owner) as shown:
        checkpointer = _build_checkpointer(context, setup, optimizer, recorder, view)
        patience = PatienceCallback(keys.patience, checkpointer)
        if last is None:
            recorder.clear()
        else:
            check_base(last, checkpointer.facts)
            checkpointer.restore(last)
        page.start(total, start)
        if start >= total or patience.is_exhausted():
            view.note(_completion(start, total))
            return start
        _warn_of_plan(context, total, view)
        _check_capacity(context, setup, checkpointer, start, view)
        if last is None:
            page.gates = _check_gates(setup, view)
        else:
            _warn_of_new_schedule(schedule, run.metrics, view)
        setup.resumed(start)
        with closing(_trackers(context, start)) as trackers:
            view.start(total, start, _facts(context, total))
            evaluation = _evaluation(context, setup, (recorder.metrics, shown), checkpointer, view, trackers)
            if evaluation is not None and start == 0:
                evaluation.run(0)
            with StopSignals() as signals, setup.prefetched() as steps:
                done = train(
                    setup.policy,
                    setup.objective,
                    steps,
                    optimizer,
                    schedule,
                    context.world,
                    [
                        recorder,
                        ProgressCallback(view),
                        trackers,
                        *setup.callbacks,
                        *filter(None, [evaluation]),
                        page,
                        checkpointer,
                        patience,
                        StopCallback(signals.received, keys.stop_after, checkpointer),
                    ],
                    start=start,
                    clip_norm=keys.clip,
                )
    if done < total:
        view.note(_completion(done, total))
    return done


def _shard(context: RunContext[Any, Any], setup: TrainingSetup[PolicyT, BatchT]) -> Optimizer:
    """Divide what is trained among the processes, and make its optimizer. Raises RecipeError."""
    if (division := context.division) is not None:
        setup.policy.shard(division.mesh, division.kind)  # what was not divided while it was loaded
    return build_optimizer(context.recipe.train, setup.policy, context.model, context.weights, context.recipe.seed)


def _trackers(context: RunContext[Any, Any], start: int) -> TrackerCallback:
    """The trackers that the recipe names. start: steps that are done already."""
    recipe, run = context.recipe, context.run
    names = recipe.run.trackers if run.is_owner else ()
    return TrackerCallback(open_trackers(names, run.path, recipe.model_dump(mode="json"), start))


def _completion(done: int, total: int) -> str:
    """Why no step is left, for the user."""
    if done < total:
        return f"the run is complete: it ended early after step {done:,} of {total:,} (train.patience)"
    return f"the run is complete: all {total:,} steps are done"


def _warn_of_plan(context: RunContext[Any, Any], total: int, view: View) -> None:
    """Print the warnings about the plan of the run. total: optimizer steps of the whole run."""
    for check in plan_checks(context.recipe, total, count_epoch(context.recipe, context.data.train)):
        if check.status == "warn":
            view.warn(f"{check.summary}; {check.advice}")


def _check_capacity(
    context: RunContext[Any, Any],
    setup: TrainingSetup[PolicyT, BatchT],
    checkpointer: Checkpointer,
    start: int,
    view: View,
) -> None:
    """Raises StorageError or RecipeError if disk or memory are too small for the rest of the run."""
    check_space(checkpointer, context.model, len(setup.steps), evaluates=setup.evaluate is not None)
    check_memory(context.recipe, setup, start, view.note, context.world)


def _build_checkpointer(
    context: RunContext[Any, Any],
    setup: TrainingSetup[PolicyT, BatchT],
    optimizer: Optimizer,
    recorder: MetricsRecorder,
    view: View,
) -> Checkpointer:
    keys = context.recipe.train
    return Checkpointer(
        directory=context.run.checkpoints,
        modules={name: trained_module(module) for name, module in setup.modules.items()},
        optimizer=optimizer,
        parameters=setup.policy.parameters(),
        facts={"recipe": context.recipe.name, **base_facts(context.recipe, context.random_base, context.run.path)},
        every=period_in_steps(keys.save_every, len(setup.steps)),
        keep=keys.keep,
        recorder=recorder,
        selection=CheckpointSelection(selection_rule(keys.best)),
        view=view,
        world=context.world,
    )


def _warn_of_new_schedule(schedule: Schedule, metrics: Path, view: View) -> None:
    """Warn if the learning rate of the last step that is done is not that of the schedule of the whole run.

    This is so where a run is continued with another length and the learning rate depends on it.
    """
    last = next((record for record in reversed(list(read_records(metrics))) if LEARNING_RATE in record), None)
    if last is not None and schedule(last[STEP] - 1) != last[LEARNING_RATE]:
        used, now = last[LEARNING_RATE], schedule(last[STEP] - 1)
        view.warn(
            f"the length of the run has changed and the schedule with it: step {last[STEP]:,} had the learning rate "
            f"{used:.3g} and would have {now:.3g} now; the steps that follow have the rates of the new schedule"
        )


def _check_gates(setup: TrainingSetup[PolicyT, BatchT], view: View) -> Sequence[Check]:
    """Check what must hold before the first step, and print it. Raises InternalError if it does not."""
    gates = setup.gates()
    check_no_failures(gates)
    for gate in gates:
        if gate.status == "warn":
            view.warn(f"{gate.name}: {gate.summary}; {gate.advice}")
        else:
            view.note(f"initial check: {gate.summary}")
    return gates


def _evaluation(
    context: RunContext[Any, Any],
    setup: TrainingSetup[PolicyT, BatchT],
    files: tuple[RecordFile, RecordFile],
    checkpointer: Checkpointer,
    view: View,
    trackers: TrackerCallback,
) -> EvaluationCallback | None:
    """files: for the metrics, and for the texts that are shown."""
    if setup.evaluate is None:
        return None
    recipe, keys = context.recipe, context.recipe.train
    if setup.texts is not None:
        replies = GeneratedReplies(None, setup.texts)
    else:
        assert context.validation is not None, "there are evaluations"
        policy, directory = context.prepared.policy, context.run.path
        replies = generated_replies(
            recipe, policy, context.renderer, context.validation, directory, view.note, context.world
        )
    return EvaluationCallback(
        evaluate=setup.evaluate,
        every=period_in_steps(keys.evaluate_every, len(setup.steps)),
        save_every=period_in_steps(keys.save_every, len(setup.steps)),
        metrics=files[0],
        shown=files[1],
        selection=checkpointer.selection,
        view=view,
        trackers=trackers,
        check=checkpointer.check,
        texts=replies.texts,
        replies=replies.metrics,
    )


def _facts(context: RunContext[Any, Any], total: int) -> dict[str, str]:
    """What the view shows when training begins."""
    recipe = context.recipe
    plan = describe_plan(recipe, total, count_epoch(recipe, context.data.train))
    return {"recipe": recipe.name, "plan": plan, "run": str(_relative(recipe.directory))}


def _export(context: RunContext[Any, Any], steps: int, view: View) -> None:
    """Write the Hugging Face directory, unless it is there already. steps: of the whole run."""
    recipe, run, model = context.recipe, context.run, context.model
    if context.world.size > 1:  # the model is sharded, and the checkpoint is not
        choice = best_of_run(run.path).best if recipe.run.export == "best" else steps
        found = load_checkpoint_model(run.path, choice, view.warn)
        found.export(run.export, view.note)
        view.note(f"exported to {_relative(run.export)}")
        return
    if recipe.model.adapter is not None:  # its base may be stored in fewer bits, so it is read again
        model = METHODS[recipe.objective.kind].build_model(recipe, recipe.objective, context.tokenizer, None).model
    saved = trained_module(model)
    if recipe.run.export == "best":
        steps = load_best(run.path, saved, view.warn)
        view.note(f"the best checkpoint is that of step {steps}")
    elif context.weights.format != "float32" or recipe.model.adapter is not None:
        load_step(run.path, steps, saved, view.warn)
    export_model(recipe, model, context.renderer, steps, run.export, view.note, run=run.path)
    view.note(f"exported to {_relative(run.export)}")


def _relative(path: Path) -> Path:
    """The path relative to the working directory if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
