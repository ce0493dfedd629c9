"""The sections of a card about what was measured: evaluation and limitations. Pure functions of the facts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from tunesmith.benchmark.suites import DOLLY
from tunesmith.publish.card.data_survey import SURVEY
from tunesmith.publish.card.document import CardSection
from tunesmith.publish.card.facts import BenchmarkScore, CardFacts, ReportSummary
from tunesmith.publish.card.markdown import author_text, code, paragraphs, plain, table
from tunesmith.publish.card.results import describe_parameters
from tunesmith.publish.card.sections import METRICS
from tunesmith.publish.card.words import LANGUAGES, count, languages_of, percent, source_link, sources_line
from tunesmith.report.intervals import GroupedRate
from tunesmith.report.metric_intervals import share_interval
from tunesmith.train.run.validation import ALL


def evaluation(facts: CardFacts) -> CardSection | None:
    """Validation metrics, benchmarks, replies and rewards; None where nothing was evaluated."""
    parts = [*_validation(facts), *_benchmarks(facts), *_replies(facts), *_rewards(facts), *_pages(facts)]
    return CardSection("evaluation", "Evaluation", paragraphs(*parts)) if parts else None


def _validation(facts: CardFacts) -> Iterator[str]:
    training = facts.training
    if not training.metrics:
        return
    names = list(dict.fromkeys(name for metrics in training.metrics.values() for name in metrics))
    headers = ["validation data", *(plain(training.labels.get(name, (name, ""))[0]) for name in names)]
    rows = [
        ["all" if source == ALL else code(source), *(_metric(facts, name, metrics) for name in names)]
        for source, metrics in training.metrics.items()
    ]
    has_interval = any(share_interval(name, metrics) for metrics in training.metrics.values() for name in metrics)
    note = "; shares have intervals of 95 %" if has_interval else ""
    yield f"On the validation data, after step {training.steps:,}{note}:"
    yield table(headers, rows, right=range(1, len(headers)))
    yield sources_line(facts, METRICS)


def _metric(facts: CardFacts, name: str, metrics: Mapping[str, float]) -> str:
    value = metrics.get(name)
    if value is None:
        return ""
    interval = share_interval(name, metrics)
    usual = ".1%" if interval is not None else ",.0f" if float(value).is_integer() else ".4g"
    form = facts.training.labels.get(name, ("", usual))[1]
    shown = f"{value:{form}}" if interval is None else f"{value:{form}} ({interval[0]:{form}} to {interval[1]:{form}})"
    return shown.replace("%", " %")


def _benchmarks(facts: CardFacts) -> Iterator[str]:
    if not facts.benchmarks:
        return
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions_of_benchmarks.items())
    yield f"Benchmarks ({plain(versions)}); the interval is one of 95 %:"
    headers = ("model", "task", "metric", "split", "shots", "items", "score", "interval")
    yield table(headers, [_benchmark_row(each) for each in facts.benchmarks], right=(4, 5, 6))
    yield sources_line(facts, *(each.source for each in facts.benchmarks))
    if rows := _card_rows(facts.benchmarks):
        yield "The table of the model card of dolly-v2-7b, sorted by the geometric mean (gmean):"
        yield table(("model", *DOLLY, "gmean"), rows, right=range(1, len(DOLLY) + 2))
    if any(each.limited for each in facts.benchmarks):
        yield "Only the first items of each task were used, so these scores are not comparable with others."


def _card_rows(scores: Sequence[BenchmarkScore]) -> list[Sequence[str]]:
    """The rows of the models that have all tasks of the card of dolly."""
    values: dict[str, dict[str, float]] = {}
    for each in scores:
        values.setdefault(_model_name(each), {})[each.task] = each.score
    found = {
        name: [tasks[task] for task in DOLLY] for name, tasks in values.items() if all(task in tasks for task in DOLLY)
    }
    means = {name: math.prod(row) ** (1 / len(row)) for name, row in found.items()}
    return [
        [name, *(f"{value:.6g}" for value in (*found[name], means[name]))]
        for name in sorted(found, key=means.__getitem__)
    ]


def _model_name(score: BenchmarkScore) -> str:
    name = "**this model**" if score.is_own else code(score.model)
    return f"{name}, {plain(score.prompts)} prompts"


def _benchmark_row(score: BenchmarkScore) -> Sequence[str]:
    interval = "" if score.low is None or score.high is None else f"{score.low:.4f} to {score.high:.4f}"
    return (
        _model_name(score),
        *map(code, (score.task, score.metric, score.split)),
        f"{score.shots}",
        f"{score.items:,}",
        f"{score.score:.4f}",
        interval,
    )


def _replies(facts: CardFacts) -> Iterator[str]:
    for report in facts.replies:
        prompts = max(summary.prompts for summary in report.summaries)
        place = source_link(facts, report.source)
        yield f"Sampled replies to {count(prompts, 'prompt')} ({place}); shares have intervals of 95 %:"
        headers = ("configuration", "replies", "ended by the model", "loops", "text of control tokens", "empty")
        yield table(headers, list(_reply_rows(report)), right=(1, 2, 3, 4, 5))
        settings = (f"{code(name)}: {code(describe_parameters(values))}" for name, values in report.parameters.items())
        yield f"Sampling: {'; '.join(settings)}."


def _reply_rows(report: ReportSummary) -> Iterator[Sequence[str]]:
    for summary in report.summaries:
        rates = (summary.ended, summary.loops, summary.control, summary.empty)
        yield (code(summary.configuration), f"{summary.replies:,}", *map(_rate, rates))


def _rate(rate: GroupedRate) -> str:
    if not rate.groups:
        return "not known"
    low, high = rate.interval()
    return f"{percent(rate.share)} ({percent(low)} to {percent(high)})"


def _rewards(facts: CardFacts) -> Iterator[str]:
    for each in facts.rewards:
        means = ", ".join(f"{code(name)} {value:.3f}" for name, value in each.means.items())
        yield (
            f"Mean score of the replies in {source_link(facts, each.report)} by the reward model "
            f"{code(each.reward_model)}, by configuration: {means} ({source_link(facts, each.source)})."
        )


def _pages(facts: CardFacts) -> Iterator[str]:
    if facts.pages:
        pages = ", ".join(source_link(facts, page) for page in facts.pages)
        yield f"Replies side by side with those of other models: {pages}."


def limitations(facts: CardFacts) -> CardSection | None:
    """What was measured of the weaknesses of the model, then what the author knows; None where nothing is known."""
    found = [f"- {line}" for line in _measured(facts)]
    own = "" if facts.card.limitations is None else author_text(facts.card.limitations)
    if not found and not own:
        return None
    return CardSection("limitations", "Limitations and bias", paragraphs("\n".join(found), own))


def _measured(facts: CardFacts) -> Iterator[str]:
    if facts.model.base is None:
        yield "It was trained from random weights on the data above only, so it knows nothing else."
    for report in facts.replies:
        for summary in report.summaries:
            where = f"sampled with {code(summary.configuration)} ({source_link(facts, report.source)})"
            if summary.ended.groups:
                yield f"{_rate(summary.ended)} of the replies {where} were ended by the model; the others were cut."
            yield f"{_rate(summary.loops)} of the replies {where} repeat the same words in a loop."
    metrics = facts.training.metrics.get(ALL, {})
    if "stopped" in metrics:
        interval = share_interval("stopped", metrics)
        between = "" if interval is None else f" ({percent(interval[0])} to {percent(interval[1])})"
        yield (
            f"{percent(metrics['stopped'])}{between} of the greedy replies to validation prompts were ended by the "
            f"model; the others were cut at {facts.recipe.evaluate.max_new_tokens:,} tokens "
            f"({source_link(facts, METRICS)})."
        )
    yield from _data_limits(facts)


def _data_limits(facts: CardFacts) -> Iterator[str]:
    survey = facts.data.survey
    if survey is None:
        return
    source = source_link(facts, SURVEY)
    if found := languages_of(survey):
        names = ", ".join(LANGUAGES.get(name, name) for name in found)
        does = "scores replies" if facts.model.kind == "reward" else "replies"
        yield (
            f"The languages found in the training data are: {plain(names)} ({source}). How the model {does} in others "
            "was not measured."
        )
    if survey.overlapping is not None:
        yield (
            f"{count(survey.overlapping, 'record')} of {survey.records:,} in the training data have a text of the "
            f"{count(survey.evaluation_texts, 'text')} of the evaluation sets that were compared ({source})."
        )
    if survey.validation_overlapping is not None:
        yield (
            f"{count(survey.validation_overlapping, 'record')} of {survey.records:,} in the training data have a text "
            f"of the separate validation data, or one that is nearly the same ({source})."
        )
