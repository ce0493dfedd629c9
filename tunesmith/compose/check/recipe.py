"""`tunesmith check`: all checks of a recipe, its data, tokenizer and model that are possible before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.batch.protocols import MicroBatch
from tunesmith.compose.check.rows import unmatched_checks, unread_check
from tunesmith.compose.check.text_survey import TextSurvey
from tunesmith.compose.components.data import prepare_data, source_configs, target_limit
from tunesmith.compose.components.steps import build_steps, count_epoch
from tunesmith.compose.components.tokenizer import build_renderer, check_start_format, choose_format
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.models import families
from tunesmith.compose.models.families import BatchKind
from tunesmith.compose.models.reference import check_reference
from tunesmith.compose.models.reward_models import check_reward_models
from tunesmith.compose.plan_checks import plan_checks
from tunesmith.compose.proof import MaskProof, batch_check, stored_checks
from tunesmith.data.dataset.building import Progress
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check, CheckReport, Status
from tunesmith.report.check_page import ShownExample
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.show import show_threads
from tunesmith.text.tree import Tree

THREADS_SHOWN, TOKENS_SHOWN = 3, 1500  # of an example on the page
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
    checks: their results.
    facts: counts for the JSON report.
    examples: records for the page.
    error: what ended the checks early.
    key: the recipe keys in use, for an error that names none.
    """

    recipe: Recipe
    progress: Progress
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    examples: list[ShownExample] = field(default_factory=list)
    error: TunesmithError | None = None
    key: str = "model.tokenizer, text.format"


def collect_checks(loaded: LoadedRecipe, progress: Progress, *, with_model: bool = True) -> CheckResult:
    """Run all checks; an error ends them and is reported as a failed check.

    with_model: also build or load the model and compare its attention with the stock model.
    """
    state = CheckState(loaded.recipe, progress)
    try:
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
    except TunesmithError as error:
        state.error = error
        state.checks.append(_error_check(error, state.key))
    failed = any(check.status == "fail" for check in state.checks)
    code = state.error.exit_code if state.error is not None else 70 if failed else 0
    return CheckResult(CheckReport(state.recipe.name, tuple(state.checks), state.facts), state.examples, code)


def _error_check(error: TunesmithError, key: str) -> Check:
    """The error as a failed check; further lines of its message are places, as preparation lists them."""
    first, *rest = error.what.split("\n")
    places = tuple(("", line.strip()) for line in rest if line.strip())
    where = f"{error.where}: " if error.where else ""
    key = "" if isinstance(error, RecipeError) else key
    return Check("preparation", "fail", f"{where}{first}", key, error.advice or "", places)


def _load_renderer(state: CheckState) -> Renderer:
    state.recipe = choose_format(state.recipe).recipe
    families.find_family(state.recipe)
    check_start_format(state.recipe)
    renderer = build_renderer(state.recipe)
    tokenizer, format = renderer.tokenizer, renderer.format
    stops = ", ".join(repr(tokenizer.decode([token], skip_controls=False)) for token in renderer.stop_ids)
    summary = f"replies of {format.name} end with {stops}; the tokenizer has {tokenizer.size:,} tokens"
    state.checks.append(Check("prompt format", "pass", summary))
    state.key = "objective"
    check_reference(state.recipe, tokenizer)
    check_reward_models(state.recipe, tokenizer)
    return renderer


def _prepare(state: CheckState) -> tuple[Prepared, Prepared | None]:
    state.key = "data.sources, text.format"
    prepared, evaluated = prepare_data(state.recipe, state.progress)
    report = prepared.report
    tallies = list(report.sources.values())
    outcomes = {
        "used": sum(tally.used for tally in tallies),
        "rejected": sum(tally.rejected.total() for tally in tallies),
        "duplicates": sum(tally.duplicates for tally in tallies),
        "quarantined": sum(tally.bad for tally in tallies),
    }
    state.facts["data"] = report.as_json()
    counted = [f"{count:,} {name}" for name, count in outcomes.items() if count or name in ("used", "rejected")]
    summary = f"{sum(tally.records for tally in tallies):,} records were read: {', '.join(counted)}"
    state.checks.append(Check("records", "pass", summary))
    tokens, cut = sum(tally.tokens for tally in tallies), sum(tally.cut for tally in tallies)
    status: Status = "fail" if 2 * cut > tokens else "warn" if 100 * cut > tokens else "pass"
    summary = f"{cut:,} of {tokens:,} tokens ({cut / max(tokens, 1):.1%}) are truncated or in records that are too long"
    limits = {"text.max_length": state.recipe.text.max_length, "text.max_target_length": target_limit(state.recipe)}
    named = {key: limit for key, limit in limits.items() if limit is not None}
    values = " and ".join(f"{limit:,}" for limit in named.values())
    advice = (
        f"raise {'it' if len(named) == 1 else 'the one that cuts'} (now {values}), or choose another text.truncation"
    )
    state.checks.append(Check("length limit", status, summary, ", ".join(named), advice))
    state.checks += [unread_check(report), *unmatched_checks(report)]
    return prepared, evaluated


def _survey_texts(state: CheckState, renderer: Renderer, prepared: Prepared, evaluated: Prepared | None) -> None:
    """One pass over the messages of all records: their masks and their texts."""
    recipe, stores = state.recipe, [prepared.train, prepared.validation, evaluated.train if evaluated else None]
    proof = MaskProof(max_unknown=recipe.text.max_unknown)
    survey = TextSurvey(recipe.data, renderer, [store for store in stores if store is not None], target_limit(recipe))
    sources = [*recipe.data.sources, *recipe.data.validation_sources]
    total = sum(len(store) for store in stores if store is not None)

    def surveyed() -> Iterator[Tree]:
        for number, tree in enumerate(read_trees(source_configs(recipe, sources))):
            if survey.includes(tree):
                state.progress(number, total, "verifying the masks")
                survey.add(tree)
                yield tree

    proof.add(renderer, surveyed())
    state.checks += proof.checks()
    state.checks += survey.checks(proof)
    state.facts["texts"] = survey.facts(proof)
    state.examples = _shown_examples(renderer, survey.samples())


def _shown_examples(renderer: Renderer, samples: Sequence[Tree]) -> list[ShownExample]:
    examples = []
    for tree in samples:
        threads = show_threads(renderer, tree, renderer.render(tree))
        first = [thread[:TOKENS_SHOWN] for thread in threads[:THREADS_SHOWN]]
        examples.append(ShownExample(tree.place, tree.source, first, len(threads) - len(first)))
    return examples


def _test_model(state: CheckState, renderer: Renderer, prepared: Prepared) -> BatchKind[MicroBatch] | None:
    """Build or load the model and test its attention; the kind of its batches, or None if the test failed."""
    state.key = "model"
    state.progress(0, None, "building the model")
    recipe, keys = state.recipe, state.recipe.objective
    method = METHODS[keys.kind]
    model, (_, rows) = method.build_model(recipe, keys, renderer.tokenizer)
    families.check_positions(recipe, model)
    state.checks += stored_checks(prepared.train, rows)
    try:
        found = method.prepare_policy(recipe, model, renderer.tokenizer)
    except RecipeError as error:
        state.checks.append(Check(ATTENTION, "fail", error.what, error.where or "", error.advice or ""))
        return None
    summary = f"layout {found.layout} agrees with the stock model; the largest difference is {found.difference:.1e}"
    status: Status = "warn" if found.layout.startswith("threads") else "pass"
    advice = "messages that threads share are computed once for each of them; set `tree` to see the reason"
    state.checks.append(Check(ATTENTION, status, summary, "model.layout", advice))
    return found.batches


def _verify_batches(
    state: CheckState, renderer: Renderer, prepared: Prepared, batches: BatchKind[MicroBatch] | None
) -> None:
    kind = batches or families.find_family(state.recipe).batches
    steps = build_steps(state.recipe, prepared.train, renderer, kind.collate)
    state.checks.append(batch_check(steps, kind.find_fault))
    if state.recipe.objective.prompt_selection is None:  # steps of rollouts need the model
        epoch = count_epoch(state.recipe, prepared.train)
        state.checks += plan_checks(state.recipe, len(steps), epoch)
