"""`tunesmith check`: everything that can be said against a recipe, its data, tokenizer and model before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.compose import parts
from tunesmith.compose.check.texts import TextSurvey
from tunesmith.compose.methods.registry import METHODS
from tunesmith.compose.models import families
from tunesmith.compose.models.families import PreparedPolicy
from tunesmith.compose.models.reference import check_reference
from tunesmith.compose.models.rewards import check_rewards
from tunesmith.compose.proof import MaskProof, batch_check, stored_checks
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

Progress = Callable[[int, int | None, str], None]

THREADS_SHOWN, TOKENS_SHOWN = 3, 1500  # of an example on the page
ATTENTION = "attention sees its own thread and nothing else"


@dataclass(slots=True)
class Checked:
    """report: all checks. examples: some records token by token. exit_code: 0 where nothing failed."""

    report: CheckReport
    examples: list[ShownExample]
    exit_code: int


@dataclass(slots=True)
class _Run:
    """Checks as they are made. error: what stopped the checking before its end. key: the recipe keys that are being used."""

    recipe: Recipe
    progress: Progress
    checks: list[Check] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    examples: list[ShownExample] = field(default_factory=list)
    error: TunesmithError | None = None
    key: str = "model.tokenizer, text.format"


def check_recipe(loaded: LoadedRecipe, progress: Progress, *, with_model: bool = True) -> Checked:
    """Run every check; one that cannot be run because an earlier one failed is left out.

    with_model: also make or load the model, and compare its attention tree against threads.
    """
    run = _Run(loaded.recipe, progress)
    try:
        renderer = _renderer(run)
        prepared, evaluated = _prepared(run)
        _texts(run, renderer, prepared, evaluated)
        learner = None
        if with_model:
            learner = _model(run, renderer, prepared)
        else:
            run.checks += stored_checks(prepared.train, None)
            run.checks.append(Check(ATTENTION, "skip", "the model was not looked at"))
        _batches(run, renderer, prepared, learner)
    except TunesmithError as error:
        run.error = error
        run.checks.append(_stopped(error, run.key))
    failed = any(check.status == "fail" for check in run.checks)
    code = run.error.exit_code if run.error is not None else 70 if failed else 0
    return Checked(CheckReport(run.recipe.name, tuple(run.checks), run.facts), run.examples, code)


def _stopped(error: TunesmithError, used: str) -> Check:
    """The error as a check that failed. One place and reason a line, as preparation lists them."""
    first, *rest = error.what.split("\n")
    places = tuple(("", line.strip()) for line in rest if line.strip())
    where = f"{error.where}: " if error.where else ""
    key = "" if isinstance(error, RecipeError) else used
    return Check("the run can begin", "fail", f"{where}{first}", key, error.advice or "", places)


def _renderer(run: _Run) -> Renderer:
    families.check_model(run.recipe)
    format = parts.prompt_format(run.recipe)
    tokenizer = parts.load_tokenizer(run.recipe, format)
    renderer = Renderer(format, tokenizer, run.recipe.targets)
    stops = ", ".join(repr(tokenizer.decode([token], skip_controls=False)) for token in renderer.stop_ids)
    summary = f"{tokenizer.size:,} tokens; {format.name} stops at {stops}"
    run.checks.append(Check("prompt format and tokenizer fit", "pass", summary))
    run.key = "objective"
    check_reference(run.recipe, tokenizer)
    check_rewards(run.recipe, tokenizer)
    return renderer


def _prepared(run: _Run) -> tuple[Prepared, Prepared | None]:
    run.key = "data.sources, text.format"
    prepared, evaluated = parts.prepare_data(run.recipe, run.progress)
    report = prepared.report
    records = sum(tally.records for tally in report.sources.values())
    parted = {
        "used": sum(tally.used for tally in report.sources.values()),
        "rejected": sum(tally.rejected.total() for tally in report.sources.values()),
        "duplicates": sum(tally.duplicates for tally in report.sources.values()),
        "quarantined": sum(tally.bad for tally in report.sources.values()),
    }
    tokens = sum(tally.tokens for tally in report.sources.values())
    cut = sum(tally.cut for tally in report.sources.values())
    run.facts["data"] = report.as_json()
    summary = f"{records:,} = " + " + ".join(
        f"{count:,} {name}" for name, count in parted.items() if count or name in ("used", "rejected")
    )
    run.checks.append(Check("every record is accounted for", "pass", summary))
    status: Status = "fail" if 2 * cut > tokens else "warn" if 100 * cut > tokens else "pass"
    summary = f"{tokens:,} tokens, {cut:,} ({cut / max(tokens, 1):.1%}) cut or in records that are too long"
    advice = f"raise it (it is {run.recipe.text.max_length:,}), or choose another text.truncation"
    run.checks.append(Check("little is lost to the length limit", status, summary, "text.max_length", advice))
    return prepared, evaluated


def _texts(run: _Run, renderer: Renderer, prepared: Prepared, evaluated: Prepared | None) -> None:
    """One pass over the messages of all records: the masks, and what the texts look like."""
    recipe, stores = run.recipe, [prepared.train, prepared.validation, evaluated.train if evaluated else None]
    proof = MaskProof()
    survey = TextSurvey(recipe.data, renderer, [store for store in stores if store is not None])
    sources = [*recipe.data.sources, *recipe.data.validation_sources]
    total = sum(len(store) for store in stores if store is not None)

    def seen() -> Iterator[Tree]:
        specs = parts.source_specs(recipe, sources)
        for number, tree in enumerate(read_trees(specs)):
            if survey.chosen(tree):
                run.progress(number, total, "proving the masks")
                survey.add(tree)
                yield tree

    proof.add(renderer, seen())
    run.checks += proof.checks()
    run.checks += survey.checks(proof)
    run.facts["texts"] = survey.facts(proof)
    run.examples = _shown(renderer, survey.samples())


def _shown(renderer: Renderer, samples: Sequence[Tree]) -> list[ShownExample]:
    examples = []
    for tree in samples:
        threads = show_threads(renderer, tree, renderer.render(tree))
        first = [thread[:TOKENS_SHOWN] for thread in threads[:THREADS_SHOWN]]
        examples.append(ShownExample(tree.place, tree.source, first, len(threads) - len(first)))
    return examples


def _model(run: _Run, renderer: Renderer, prepared: Prepared) -> PreparedPolicy | None:
    run.key = "model"
    run.progress(0, None, "making the model")
    method = METHODS[run.recipe.objective.kind]
    model, (_, rows) = method.build_model(run.recipe, renderer.tokenizer)
    families.check_positions(run.recipe, model)
    run.checks += stored_checks(prepared.train, rows)
    try:
        learner = method.build_learner(run.recipe, model, renderer.tokenizer)
    except RecipeError as error:
        run.checks.append(Check(ATTENTION, "fail", error.what, error.where or "", error.advice or ""))
        return None
    summary = f"layout {learner.layout}, largest difference from the stock model {learner.difference:.1e}"
    status: Status = "warn" if learner.layout == "threads" else "pass"
    advice = "shared messages are computed once for every thread through them; insist on `tree` to see why"
    run.checks.append(Check(ATTENTION, status, summary, "model.layout", advice))
    return learner


def _batches(run: _Run, renderer: Renderer, prepared: Prepared, learner: PreparedPolicy | None) -> None:
    kind = families.check_model(run.recipe).batches if learner is None else learner.batches
    steps = parts.build_steps(run.recipe, prepared.train, renderer, kind.collate)
    run.checks.append(batch_check(steps, kind.find_fault))
