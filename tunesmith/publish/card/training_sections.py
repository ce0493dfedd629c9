"""The sections of a card about data and training: pure functions of the facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from tunesmith.publish.card.data_survey import SURVEY
from tunesmith.publish.card.document import CardSection
from tunesmith.publish.card.facts import CardFacts, SourceFacts
from tunesmith.publish.card.markdown import code, code_block, paragraphs, plain, table
from tunesmith.publish.card.sections import MANIFEST, METRICS, RECIPE
from tunesmith.publish.card.words import LANGUAGES, METHODS, count, percent, source_link, sources_line
from tunesmith.recipe.licenses import find_license_conflict

TIMING = "timing.jsonl"


def training_data(facts: CardFacts) -> CardSection:
    """What the model was trained on: counts, rejected records by reason, languages and licenses."""
    data = facts.data
    rows = [_source_row(source) for source in data.sources]
    headers = ("source", "data", "license", "records", "used", "rejected or dropped", "tokens", "trained tokens")
    parts = [
        table(headers, rows, right=(3, 4, 6, 7)),
        _split(facts),
        f"{count(data.duplicates, 'record')} repeat an earlier one and were kept." if data.duplicates else "",
        sources_line(facts, RECIPE, MANIFEST),
        *_separate(facts),
        *_languages(facts),
        *_license_notes(facts),
    ]
    return CardSection("training-data", "Training data", paragraphs(*parts))


def _source_names(source: SourceFacts) -> tuple[str, str, str]:
    """Name, data and license of a source."""
    place = f"[{code(source.place)}](https://huggingface.co/datasets/{source.place})"
    shown = place if source.on_hub else code(source.place)
    return (
        code(source.name),
        f"{shown}, {code(source.split)}" if source.split else shown,
        code(source.license) if source.license else "not stated",
    )


def _source_row(source: SourceFacts) -> tuple[str, ...]:
    counts = source.counts
    return (
        *_source_names(source),
        *(f"{int(counts[name]):,}" for name in ("records", "used")),
        ", ".join(f"{plain(reason)}: {number:,}" for reason, number in _left_out(counts).items()) or "none",
        *(f"{int(counts[name]):,}" for name in ("tokens", "trained")),
    )


def _left_out(counts: Mapping[str, Any]) -> dict[str, int]:
    """Reason -> records, and messages of records that are used."""
    found = {str(reason): int(number) for reason, number in counts["rejected"].items()}
    found |= {"duplicates": int(counts.get("duplicates", 0)), "unusable rows": int(counts.get("bad", 0))}
    found |= {f"messages, {reason}": int(number) for reason, number in counts["dropped"].items()}
    return {reason: number for reason, number in found.items() if number}


def _split(facts: CardFacts) -> str:
    train, validation = facts.data.train, facts.data.validation
    sentence = f"{count(train['records'], 'record')} with {count(train['tokens'], 'token')} are for training"
    if validation and not facts.data.separate:
        sentence += f", and {count(validation['records'], 'record')} were held out for validation"
    return f"{sentence}."


def _separate(facts: CardFacts) -> Iterator[str]:
    """Validation data that are no part of the training data."""
    if not facts.data.separate:
        return
    limits = {each.limit for each in facts.data.separate}
    limit = next(iter(limits)) if len(limits) == 1 else None
    at_most = "" if limit is None else f", of which at most {count(limit, 'record')} of each source are evaluated"
    yield f"Validation data are separate{at_most}:"
    own = len(limits) > 1
    rows = [(*_source_names(each), f"{each.counts['records']:,}" if each.counts else "not known",
             *([f"at most {each.limit:,}" if each.limit else "all"] if own else []))
            for each in facts.data.separate]  # fmt: skip
    headers = ("source", "data", "license", "records", *(["evaluated"] if own else []))
    yield table(headers, rows, right=(3, 4) if own else (3,))
    yield sources_line(facts, RECIPE, *([SURVEY] if any(each.counts for each in facts.data.separate) else []))


def _languages(facts: CardFacts) -> Iterator[str]:
    survey = facts.data.survey
    if survey is None:
        return
    kinds = (
        (survey.declared, "message", "as the data declare it", ""),
        (survey.detected, "record", "detected by py3langid", ""),
        (survey.validation_declared, "message", "as the data declare it", " of the separate validation data"),
        (survey.validation_detected, "record", "detected by py3langid", " of the separate validation data"),
    )
    for counts, what, how, where in kinds:
        if counts:
            total = sum(counts.values())
            shown = ", ".join(f"{LANGUAGES.get(name, name)} {percent(n / total)}" for name, n in counts.items())
            yield f"Languages of {count(total, what)}{where}, {how}: {plain(shown)}."
    if any(counts for counts, *_ in kinds):
        yield sources_line(facts, SURVEY)


def _license_notes(facts: CardFacts) -> Iterator[str]:
    """What the licenses of the data ask for and the license of the model does not repeat."""
    chosen = facts.card.license
    for source in facts.data.sources:  # nothing of separate validation data is in the weights
        if chosen is None or not source.license:
            continue
        if (conflict := find_license_conflict(chosen, source.license)) is not None:
            text = f"The license of {code(source.name)}: {conflict}. The author chose {code(chosen)} for the model"
            reason = facts.card.license_reason
            yield f"{text}." if reason is None else f"{text}, for this reason: {plain(reason)}."


def training_procedure(facts: CardFacts) -> CardSection:
    """What was done, on what, how long, and the recipe."""
    training = facts.training
    rows = list(_hyperparameters(facts))
    parts = [
        f"Method: {METHODS[training.method]}. {_length(facts)}",
        sources_line(facts, METRICS, TIMING),
        "The following hyper-parameters were used:",
        table(("hyper-parameter", "value", "source"), rows),
        "The machine and the software:",
        table(("", "value"), list(_environment(facts))),
        sources_line(facts, MANIFEST),
        "The recipe with all its values (local paths are shortened, and the section `card` is this card):",
        code_block(facts.recipe_text, "yaml"),
    ]
    return CardSection("training-procedure", "Training procedure", paragraphs(*parts))


def _length(facts: CardFacts) -> str:
    training = facts.training
    words = [f"The weights are those after {count(training.steps, 'optimizer step')}"]
    if training.planned and training.planned != training.steps:
        words.append(f" of {training.planned:,} planned")
    words.append(
        f": {count(training.examples, 'example')}, {count(training.tokens, 'token')}, of which "
        f"{training.targets:,} were trained"
    )
    if training.method != "ppo":
        words.append(f" ({training.examples / max(1, facts.data.train['records']):.2f} times the training records)")
    text = "".join(words) + "."
    time = timedelta(seconds=round(training.seconds))
    return f"{text} These steps alone took {time} (hours, minutes, seconds)." if training.seconds else text


def _hyperparameters(facts: CardFacts) -> Iterator[tuple[str, str, str]]:
    """The names of transformers' cards, with the values of the recipe and their keys."""
    keys = facts.recipe.train
    optimizer = keys.optimizer.model_dump()
    schedule = keys.schedule.model_dump()
    values: list[tuple[str, object, str]] = [
        ("learning_rate", keys.learning_rate, "train.learning_rate"),
        ("total_train_batch_size", f"{keys.batch_size:,} {keys.batch_unit}", "train.batch_size"),
        ("optimizer", _named(optimizer), "train.optimizer"),
        ("lr_scheduler_type", _named(schedule), "train.schedule"),
        ("num_epochs", keys.epochs, "train.epochs"),
        ("max_steps", keys.steps, "train.steps"),
        ("stopped after", keys.stop_after, "train.stop_after"),
        ("gradient clipping", keys.clip, "train.clip"),
        ("seed", facts.recipe.seed, "seed"),
        ("residual_dropout", facts.recipe.model.residual_dropout, "model.residual_dropout"),
        ("training precision", _precision(facts), "model.dtype"),
        ("max_length", facts.recipe.text.max_length, "text.max_length"),
    ]
    objective = facts.recipe.objective.model_dump(mode="json")
    if facts.recipe.model.adapter is not None:
        values.append(("adapter", _named(facts.recipe.model.adapter.model_dump()), "model.adapter"))
    for name, value in objective.items():
        # Entries of a list, such as the rewards of PPO, are one value.
        shown = "; ".join(map(_named, value)) if isinstance(value, list) else value
        values.append((name, shown, f"objective.{name}"))
    for name, value, key in values:
        if value is not None and value != "":
            yield code(name), code(_value(value)), f"{source_link(facts, RECIPE)} {code(key)}"


def _named(values: Mapping[str, Any]) -> str:
    """``adamw: betas (0.9, 0.999), epsilon 1e-08``."""
    others = ", ".join(f"{name} {_value(each)}" for name, each in values.items() if name != "kind" and each is not None)
    return f"{values['kind']}: {others}" if others else str(values["kind"])


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _precision(facts: CardFacts) -> str:
    return f"{facts.recipe.model.dtype} products, {facts.recipe.train.weights} weights"


def _environment(facts: CardFacts) -> Iterator[tuple[str, str]]:
    """Name and value; where the starts that trained the weights have different ones, each with its first step."""
    training = facts.training
    starts: list[Mapping[str, Any]] = [
        {**_machine(each.hardware), "commit of the code": each.commit, **each.versions} for each in training.starts
    ]
    starts = starts or [{**_machine(training.hardware), **training.versions}]
    # A start lacks the versions of packages that it had not loaded.
    names = dict.fromkeys(name for start in starts for name in start)
    rows = {name: ["" if start.get(name) is None else str(start[name]) for start in starts] for name in names}
    times = {"started": training.started, "finished": training.finished}
    for name, value in times.items():
        if value:
            yield plain(name), code(value)
    for name, values in rows.items():
        if any(values):
            yield plain(name), _by_start(facts, values)


def _machine(hardware: Mapping[str, Any]) -> Mapping[str, Any]:
    gpus = hardware.get("gpus") or []
    return {
        "GPUs": ", ".join(map(str, gpus)) if gpus else "none",
        "processor": hardware.get("machine"),
        "system": hardware.get("system"),
        "threads": hardware.get("threads"),
        "processes": hardware.get("processes", 1),
    }


def _by_start(facts: CardFacts, values: Sequence[str]) -> str:
    """One value, or the values of the starts with the steps from which they are."""
    if len(set(values)) == 1:
        return code(values[0])
    found: list[tuple[int, str]] = []
    for start, value in zip(facts.training.starts, values, strict=True):
        if not found or found[-1][1] != value:
            found.append((start.step + 1, value))
    return "; ".join(f"from step {step:,}: {code(value) if value else 'not recorded'}" for step, value in found)


def how_to_repeat(facts: CardFacts) -> CardSection:
    """The commands that train the model again, and what is known about the weights that they give."""
    training = facts.training
    versions = training.starts[-1].versions if training.starts else training.versions
    version = code(str(versions.get("tunesmith")))
    text = (
        "Save the recipe above as `recipe.yaml`, with the paths of your data and models in it, and train it with "
        f"Tunesmith {version}. {_same_weights(facts)} The files that this card names without a link are in the "
        "directory of the run, which is not part of the model."
    )
    commands = [each.command for each in training.starts]
    given = f"The command was {_by_start(facts, commands)}." if any(commands) else ""
    if len(set(commands)) > 1:
        given = f"The run was started by several commands, {_by_start(facts, commands)}."
    processes = _processes(facts)
    launcher = "tunesmith" if processes == 1 else f"torchrun --nproc-per-node {processes} -m tunesmith"
    lines = [f"{launcher} train recipe.yaml"]
    if training.export_options:
        lines.append(f"tunesmith export RUN {' '.join(training.export_options)} --output DIRECTORY")
    return CardSection(
        "how-to-repeat",
        "How to repeat this",
        paragraphs(text, code_block("\n".join(lines), "sh"), given, sources_line(facts, RECIPE, MANIFEST)),
    )


def _processes(facts: CardFacts) -> int:
    return int(_last_hardware(facts).get("processes", 1))


def _last_hardware(facts: CardFacts) -> Mapping[str, Any]:
    """That of the last start that trained the weights; the manifest may have that of one that trained nothing."""
    starts = facts.training.starts
    return starts[-1].hardware if starts else facts.training.hardware


def _same_weights(facts: CardFacts) -> str:
    """What is known about the weights of a repetition."""
    training, processes, hardware = facts.training, _processes(facts), _last_hardware(facts)
    if not hardware.get("deterministic", True):
        return "The algorithms on the GPU were not deterministic, so the weights differ in their last digits."
    if training.changes:
        changes = ", and with ".join(training.changes)
        return f"The run was continued with {changes}, so the weights of a repetition in one piece may differ."
    if not training.starts:
        return "The run has not recorded its starts, so it is not known whether a repetition gives the same weights."
    if hardware.get("gpus"):
        return (
            "The algorithms on the GPU were deterministic; whether the same machine gives the same weights again was "
            "not tested."
        )
    same = "versions and threads" if processes == 1 else f"versions, threads and {processes} processes"
    return f"On the same machine with the same {same} the weights are the same, bit for bit."
