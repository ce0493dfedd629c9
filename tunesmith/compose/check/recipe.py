"""`tunesmith check`: all checks of a recipe, its data, tokenizer and model that are possible before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.batch.protocols import MicroBatch
from tunesmith.compose.check.examples import show_record
from tunesmith.compose.check.inputs import describe_data, describe_model, describe_recipe, describe_text
from tunesmith.compose.check.rows import left_out_checks, records_check, unmatched_checks, unread_check
from tunesmith.compose.check.text_survey import TextSurvey
from tunesmith.compose.components.data import prepare_data, source_configs
from tunesmith.compose.components.format_choice import with_chosen_format
from tunesmith.compose.components.recognition import name_readers
from tunesmith.compose.components.steps import build_steps, count_epoch
from tunesmith.compose.components.tokenizer import build_renderer, check_start_format
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.models import families
from tunesmith.compose.models.families import BatchKind
from tunesmith.compose.models.reference import check_reference
from tunesmith.compose.models.reward_models import check_reward_models
from tunesmith.compose.plan_checks import plan_checks
from tunesmith.compose.proof import MaskProof, batch_check, stored_checks
from tunesmith.data.dataset.building import Progress
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.dataset.report import DataReport
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.model.context import context_length
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check, CheckReport, Status
from tunesmith.report.check_page import ShownExample
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Tree

ATTENTION = "attention"


@dataclass(slots=True)
class CheckResult:
    """What `tunesmith check` found.

    report: all checks.
    examples: some records, token by token.
    exit_code: 0 where nothing failed.
    """

    report: CheckReport
    examples: list[ShownExample]
    exit_code: int


@dataclass(slots=True)
class CheckState:
    """The checks so far.

    recipe: what is checked.
    progress: callback of the work.
    inputs: what was checked, for the reader of the report.
    checks: their results.
    facts: counts for the JSON report.
    examples: records for the page.
    error: what ended the checks early.
    stage: what is being checked, for an error.
    key: the recipe keys in use, for an error that names none.
    survey: of the records, once they are prepared.
    report: counts of the data, once they are prepared.
    positions: the most tokens that the model reads, once it is built; None without a limit.
    """

    recipe: Recipe
    progress: Progress
    inputs: dict[str, Sequence[str]]
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    examples: list[ShownExample] = field(default_factory=list)
    error: TunesmithError | None = None
    stage: str = ""
    key: str = ""
    survey: TextSurvey | None = None
    report: DataReport | None = None
    positions: int | None = None

    def begin(self, stage: str, key: str) -> None:
        """What is checked next. stage: its name. key: the recipe keys that it uses."""
        self.stage, self.key = stage, key


def collect_checks(
    loaded: LoadedRecipe, progress: Progress, *, with_model: bool = True, command: str = ""
) -> CheckResult:
    """Run all checks; an error ends them and is reported as a failed check.

    with_model: also build or load the model and compare its attention with the stock model.
    command: the command line, for the report.
    """
    state = CheckState(loaded.recipe, progress, describe_recipe(loaded.recipe, command))
    try:
        _name_readers(state, loaded)
        _run_checks(state, with_model=with_model)
    except TunesmithError as error:
        state.error = error
        state.checks.append(_error_check(error, state.stage, state.key))
    checks = state.checks
    if state.survey is not None and state.report is not None and state.survey.lengths.records:
        checks = [*state.survey.lengths.checks(state.report, state.positions), *checks]
    failed = any(check.status == "fail" for check in checks)
    code = state.error.exit_code if state.error is not None else 70 if failed else 0
    report = CheckReport(state.recipe.name, tuple(checks), state.facts, state.inputs)
    return CheckResult(report, state.examples, code)


def _run_checks(state: CheckState, *, with_model: bool) -> None:
    renderer = _load_renderer(state)
    prepared, evaluated = _prepare(state)
    _survey_texts(state, renderer, prepared, evaluated)
    if with_model:
        batches = _test_model(state, renderer, prepared)
    else:
        batches = None
        state.checks += stored_checks(prepared.train, None)
        state.checks.append(Check(ATTENTION, "skip", "not tested, since no model was loaded"))
    _verify_batches(state, renderer, prepared, batches)


def _error_check(error: TunesmithError, stage: str, key: str) -> Check:
    """The error as a failed check; further lines of its message are places, as preparation lists them."""
    first, *rest = error.what.split("\n")
    places = tuple(("", line.strip()) for line in rest if line.strip())
    where = f"{error.where}: " if error.where else ""
    key = "" if isinstance(error, RecipeError) else key
    return Check(f"cannot begin: {stage}", "fail", f"{where}{first}", key, error.advice or "", places)


def _name_readers(state: CheckState, loaded: LoadedRecipe) -> None:
    state.begin("data", "data.sources")
    lines: list[str] = []
    state.recipe = name_readers(loaded, lines.append).recipe
    state.checks += [Check("reader", "pass", line) for line in lines]


def _load_renderer(state: CheckState) -> Renderer:
    state.begin("tokenizer", "model.tokenizer, text.format")
    state.recipe, _ = with_chosen_format(state.recipe)
    state.inputs["text"] = [describe_text(state.recipe)]
    state.begin("model", "model")
    families.find_family(state.recipe)
    check_start_format(state.recipe)
    state.begin("tokenizer", "model.tokenizer, text.format")
    renderer = build_renderer(state.recipe)
    tokenizer, format = renderer.tokenizer, renderer.format
    stops = " or ".join(repr(tokenizer.decode([token], skip_controls=False)) for token in renderer.stop_ids)
    summary = f"{tokenizer.size:,} tokens in the vocabulary; replies of the format {format.name} end with {stops}"
    state.checks.append(Check("prompt format", "pass", summary))
    state.begin("objective", "objective")
    check_reference(state.recipe, tokenizer)
    check_reward_models(state.recipe, tokenizer)
    return renderer


def _prepare(state: CheckState) -> tuple[Prepared, Prepared | None]:
    state.begin("data", "data.sources, text.format")
    prepared, evaluated = prepare_data(state.recipe, state.progress)
    state.report = report = prepared.report
    state.facts["data"] = report.as_json()
    state.inputs.update(describe_data(state.recipe, prepared, evaluated))
    state.checks += [records_check(report), *left_out_checks(report), unread_check(report), *unmatched_checks(report)]
    return prepared, evaluated


def _survey_texts(state: CheckState, renderer: Renderer, prepared: Prepared, evaluated: Prepared | None) -> None:
    """One pass over the messages of all records: their masks, their lengths and their texts."""
    recipe, stores = state.recipe, [prepared.train, prepared.validation, evaluated.train if evaluated else None]
    proof = MaskProof(max_unknown=recipe.text.max_unknown)
    survey = state.survey = TextSurvey(recipe, renderer, stores)
    sources = [*recipe.data.sources, *recipe.data.validation_sources]
    total = sum(len(store) for store in stores if store is not None)

    def surveyed() -> Iterator[Tree]:
        for number, tree in enumerate(read_trees(source_configs(recipe, sources))):
            if survey.includes(tree):
                state.progress(number, total, "verifying the masks")
                yield tree

    for tree, tokens in proof.verified(renderer, surveyed()):
        survey.add(tree, tokens)
    state.checks += [*proof.checks(), *survey.checks()]
    state.facts["texts"] = survey.facts()
    state.examples = [show_record(recipe, renderer, record) for record in survey.samples()]


def _test_model(state: CheckState, renderer: Renderer, prepared: Prepared) -> BatchKind[MicroBatch] | None:
    """Build or load the model and test its attention; the kind of its batches, or None if the test failed."""
    state.begin("model", "model")
    state.progress(0, None, "building the model")
    recipe, keys = state.recipe, state.recipe.objective
    method = METHODS[keys.kind]
    built = method.build_model(recipe, keys, renderer.tokenizer, None)
    model = built.model
    state.inputs["model"] = [*state.inputs["model"], describe_model(model)]
    families.check_positions(recipe, model)
    state.positions = context_length(model.config)
    state.checks += stored_checks(prepared.train, built.after)
    try:
        found = method.prepare_policy(recipe, built.opened, renderer.tokenizer)
    except RecipeError as error:
        state.checks.append(Check(ATTENTION, "fail", error.what, error.where or "", error.advice or ""))
        return None
    summary = f"{found.difference:.0e} is the largest difference from stock transformers, with layout {found.layout}"
    threads = found.layout.startswith("threads")
    status: Status = "warn" if threads else "pass"
    advice = "nothing has to be done: the results are right, but texts that several replies share are computed for each"
    state.checks.append(Check(ATTENTION, status, summary, "model.layout", advice))
    return found.batches


def _verify_batches(
    state: CheckState, renderer: Renderer, prepared: Prepared, batches: BatchKind[MicroBatch] | None
) -> None:
    state.begin("batches", "train")
    kind = batches or families.find_family(state.recipe).batches
    steps = build_steps(state.recipe, prepared.train, renderer, kind.collate)
    state.checks.append(batch_check(steps, kind.find_fault))
    if state.recipe.objective.prompt_selection is None:  # steps of rollouts need the model
        epoch = count_epoch(state.recipe, prepared.train)
        state.checks += plan_checks(state.recipe, len(steps), epoch)
