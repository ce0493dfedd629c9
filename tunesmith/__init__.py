"""Tunesmith turns a base language model into an assistant, and shows that it got better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cli.lazy import load_part
from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from tunesmith.generate.pipeline import ReplyPipeline
    from tunesmith.recipe.load import LoadedRecipe
    from tunesmith.train.run.trained import TrainedRun

__all__ = ["load_recipe", "pipeline", "sample", "score", "train_recipe"]
__version__ = "0.1.0"


def load_recipe(recipe: str | Path | Mapping[str, Any], *changes: str) -> LoadedRecipe:
    """Load a recipe and check all of its values, without PyTorch.

        tunesmith.load_recipe("dolly-v2-3b", "tiny", "train.epochs=1")
        tunesmith.load_recipe({"extends": "sft", "name": "faq", "model": {...}, "data": {...}})

    recipe: the name of a built-in recipe, a .yaml file, or what such a file would hold as a mapping.
    changes: layers (``tiny``, ``mine.yaml``) and single values (``train.epochs=1``), of which the later one wins; all
        single values win over files.
    Returns the recipe with the origin of each value: ``loaded.recipe.train.learning_rate``, ``loaded.origins``.
    Raises InvalidRecipeError, which has all mistakes at once; RecipeError, MissingInputError, UsageError.
    """
    loaded: LoadedRecipe
    names, values = load_part("tunesmith.recipe.load:split_words")(changes)
    if isinstance(recipe, Mapping):
        loaded = load_part("tunesmith.recipe.load:load_mapping")(recipe, values, layers=names)
    else:
        loaded = load_part("tunesmith.recipe.load:load")([str(recipe), *names], values)
    return loaded


def train_recipe(recipe: LoadedRecipe | str | Path | Mapping[str, Any], *changes: str) -> TrainedRun:
    """Train the model of a recipe, export it, and write its model card. A run that was stopped is continued.

        run = tunesmith.train_recipe("faq.yaml", "train.epochs=1")
        run.directory, run.export, run.steps  # Path("runs/faq"), Path("runs/faq/export"), 120

    recipe, changes: as ``load_recipe``, or a recipe that is loaded already, without changes.
    Returns the directory of the run, that of the exported model, and the number of optimizer steps of the whole run.
    Raises any TunesmithError; StoppedError after a signal, when a checkpoint is saved.
    """
    if isinstance(recipe, str | Path | Mapping):
        recipe = load_recipe(recipe, *changes)
    elif changes:
        raise UsageError("changes are given for a recipe that is loaded", advice="give them to load_recipe")
    trained: TrainedRun = load_part("tunesmith.cli.train:train_loaded")(recipe)
    return trained


def sample(
    models: Sequence[str | Path],
    *,
    prompts: str | Path = "general",
    output: str | Path = "reports",
    sampling: Sequence[str] = ("noprefix",),
    samples: int = 2,
    seed: int = 42,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    format: str | None = None,
    batch_size: int = 32,
) -> list[Path]:
    """Sample the replies of models to prompts, and write a sampling report for each model.

        tunesmith.sample(["runs/base", "runs/faq"], prompts="prompts.jsonl", sampling=["noprefix:greedy"])

    models: directories of runs or models.
    prompts: a file with one prompt a line (.txt, or .jsonl), or the name of a built-in set.
    output: the directory that gets the reports.
    sampling: sampling configurations: ``noprefix``, some of a file as ``noprefix:k50,greedy``, or a .json file.
    samples: replies to a prompt with each configuration; one if it is greedy.
    seed: of the random draws; the same seed gives the same replies.
    limit: how many of the prompts are used; None for all.
    max_new_tokens: the largest number of tokens of a reply; None for that of the configuration.
    format: the prompt format of the models that do not declare one, such as ``plain`` for a base model.
    batch_size: replies that are generated together; it changes no reply.
    Returns the reports, one for each model and file of sampling configurations. What is finished is not sampled again.
    Raises UsageError, MissingInputError, DataError, RecipeError, StorageError, LockedError, and StoppedError after a
    signal.
    """
    settings = load_part("tunesmith.apps.sample:SampleSettings")(
        prompts=str(prompts),
        sampling=tuple(sampling),
        samples=samples,
        seed=seed,
        limit=limit,
        max_new_tokens=max_new_tokens,
        format=format,
        batch_size=batch_size,
    )
    reports: list[Path] = load_part("tunesmith.apps.sample:run")([str(each) for each in models], settings, Path(output))
    return reports


def score(
    model: str | Path,
    inputs: Sequence[str | Path],
    *,
    reader: str | None = None,
    output: str | Path | None = None,
    format: str | None = None,
    skip: bool = False,
) -> list[dict[str, Any]]:
    """Score replies with a reward model: a higher score means a better reply.

        tunesmith.score("runs/reward", ["conversations.jsonl"])[0]["score"]   # 1.25
        tunesmith.score("runs/reward", ["reports/faq.json"])[0]["mean_reward"]

    model: the run of a reward model, or its export.
    inputs: files of conversations or preferences, or sampling reports.
    reader: how records are read, as in ``data.sources`` of a recipe; None for ``messages`` and for reports.
    output: the file that gets the scores as well; None prints them.
    format: the prompt format of a model that Tunesmith has not exported.
    skip: leave out replies that cannot be scored, instead of raising.
    Returns for records one entry for each thread (``place``, ``messages``, ``score``), for reports one for each report
    (``results``, ``mean_reward``, ``RM_score``, ``scores``). Scores have no unit and no zero: only differences between
    replies to one prompt have a meaning.
    Raises UsageError, MissingInputError, DataError, RecipeError, StorageError.
    """
    reading = None if reader is None else load_part("tunesmith.apps.score:ReaderChoice")(reader)
    target = None if output is None else Path(output)
    scores: list[dict[str, Any]] = load_part("tunesmith.apps.score:run")(
        str(model), [str(each) for each in inputs], output=target, reading=reading, format=format, skip=skip
    )
    return scores


def pipeline(
    path: str | Path, *, format: str | None = None, return_full_text: bool = False, **sampling: float
) -> ReplyPipeline:
    """Load a model that answers instructions, as a Python function.

        generate = tunesmith.pipeline("runs/dolly-v2-3b")
        generate("Name three rivers.", num_return_sequences=2)  # [{"generated_text": "..."}, {"generated_text": "..."}]

    Calls and results are those of a pipeline of transformers, so LangChain's HuggingFacePipeline accepts it. No code of
    the model directory is run.

    path: a run directory, its export, or another model directory.
    format: the prompt format of a directory without tunesmith.json.
    return_full_text: whether texts are the instruction, a line break and the reply.
    sampling: settings in place of those of the model, such as ``max_new_tokens``.
    Raises MissingInputError, DataError, UsageError.
    """
    loaded: ReplyPipeline = load_part("tunesmith.generate.pipeline:open_pipeline")(
        path, format=format, return_full_text=return_full_text, **sampling
    )
    return loaded
