"""Numbers about the server in the text format of Prometheus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from tunesmith.serve.engine.models import ServedModel

SPECIAL = re.compile(r'[\\"\n]')


class RequestCounters:
    """How many requests were answered, by route and status. open: how many are being answered."""

    def __init__(self) -> None:
        self.open = 0
        self.answered: Counter[tuple[str, int]] = Counter()

    def count(self, route: str, status: int) -> None:
        """Count an answer."""
        self.answered[route, status] += 1


def write_metrics(counters: RequestCounters, models: Iterable[ServedModel]) -> str:
    """The text of ``/metrics``."""
    return "\n".join(_lines(counters, list(models))) + "\n"


def _lines(counters: RequestCounters, models: list[ServedModel]) -> Iterator[str]:
    yield from _head("tunesmith_http_requests_total", "counter", "Requests that were answered.")
    for (route, status), number in sorted(counters.answered.items()):
        yield f'tunesmith_http_requests_total{{route="{_escaped(route)}",status="{status}"}} {number}'
    yield from _head("tunesmith_http_requests_open", "gauge", "Requests that are being answered.")
    yield f"tunesmith_http_requests_open {counters.open}"
    numbers = (
        ("replies_running", "gauge", "Replies that are being generated.", "running"),
        ("requests_waiting", "gauge", "Requests that wait for a row.", "waiting"),
        ("tokens_reserved", "gauge", "Tokens that the accepted requests may come to hold.", "reserved"),
        ("steps_total", "counter", "Steps of the model.", "steps"),
        ("step_seconds_total", "counter", "Seconds of all steps.", "busy"),
        ("tokens_generated_total", "counter", "Tokens that were generated.", "generated"),
        ("prompt_tokens_total", "counter", "Tokens of prompts.", "prompts"),
        ("scored_tokens_total", "counter", "Tokens whose log-probabilities were computed.", "scored"),
        ("requests_refused_total", "counter", "Requests that were refused because the queue was full.", "refused"),
        ("engine_failures_total", "counter", "Errors that ended all running replies.", "failures"),
    )
    for name, kind, about, field in numbers:
        yield from _head(f"tunesmith_{name}", kind, about)
        for model in models:
            yield f'tunesmith_{name}{{model="{_escaped(model.name)}"}} {getattr(model.thread.load, field)}'
    yield from _head("tunesmith_replies_total", "counter", "Replies that ended, by reason.")
    for model in models:
        for reason, number in sorted(model.thread.load.finished.copy().items()):
            yield f'tunesmith_replies_total{{model="{_escaped(model.name)}",reason="{reason}"}} {number}'


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"


def _escaped(text: str) -> str:
    return SPECIAL.sub(lambda match: {"\\": "\\\\", '"': '\\"', "\n": "\\n"}[match.group()], text)
