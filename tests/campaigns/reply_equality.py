"""Generate the same replies in batches of 1, 8 and 64 rows, in any order, and compare their ids.

    python -m tests.campaigns.reply_equality [--prompts 500]

With batches of 8 and 64 every combination is run of: the given order and a random one; rows that begin as soon as
another one ends, and rows that begin when all have ended; one queue, in which a prompt is read once for all its
samples, and a queue for each sample. With a batch of 1 both orders are run in one queue, and every reply in a queue of
its own. The model has the vocabulary of Pythia and logits as peaked as those of a trained model; the prompts have the
lengths of OpenAssistant's published report on SFT-4.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from benchmarks.sampling_inputs import SETTINGS, VOCABULARY, make_jobs, peaked_model, sampling_of
from tunesmith.generate.requests import ReplyRequest, StoppingCriteria
from tunesmith.generate.running_rows import RunningRows
from tunesmith.generate.scheduler import Scheduler
from tunesmith.generate.slot_rows import SlotRows

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
STOPPING = StoppingCriteria((), VOCABULARY, 2048)
SEED = 1
Queue = Sequence[int]
"""Numbers of the requests that are generated with the same rows."""
Replies = dict[int, tuple[int, ...]]
"""Number of the request -> ids of its reply."""
OpenRows = Callable[[PreTrainedModel, int], RunningRows]
Way = tuple[str, OpenRows, Sequence[Queue], int]
"""(name, rows, queues, size of the batch) of one way to generate the replies."""


class WaitingRows(SlotRows):
    """Rows that begin when all others have ended."""

    joins = False


def make_requests(prompts: int) -> list[ReplyRequest]:
    """Replies of 1 to 5 tokens, every 50th longer than a block of the cache; two samples of every fourth prompt."""
    names, found = list(SETTINGS), list[ReplyRequest]()
    for number, job in enumerate(make_jobs(prompts)):
        sampling = sampling_of(names[number % len(names)], 70 if number % 50 == 0 else 1 + number % 5)
        samples = (number, prompts + number) if number % 4 == 0 else (number,)
        found += [ReplyRequest(job.prompt, sampling, SEED, sample) for sample in samples]
    return found


def generate(
    open_rows: OpenRows, model: PreTrainedModel, requests: Sequence[ReplyRequest], queues: Sequence[Queue], rows: int
) -> Replies:
    """The replies, every queue with new rows. rows: of a batch."""
    found: Replies = {}
    for queue in queues:
        scheduler = Scheduler(open_rows(model, rows), STOPPING, rows)
        numbers = {scheduler.add(requests[number]): number for number in queue}
        found |= {numbers[ticket]: reply.ids for ticket, reply in scheduler.run()}
    return found


def apart(requests: Sequence[ReplyRequest], order: Queue) -> list[Queue]:
    """A queue for the first sample of every prompt, and one for the second samples."""
    first = set({request.prompt: number for number, request in reversed(list(enumerate(requests)))}.values())
    return [[number for number in order if (number in first) is wanted] for wanted in (True, False)]


def ways(requests: Sequence[ReplyRequest]) -> Iterator[Way]:
    """Everything that has to give the same replies."""
    given = list(range(len(requests)))
    orders = {"given order": given, "random order": random.Random(SEED).sample(given, len(given))}
    for size in (8, 64):
        kinds: dict[str, OpenRows] = {"refilled": SlotRows, "not refilled": WaitingRows}
        for (order, numbers), (kind, rows) in itertools.product(orders.items(), kinds.items()):
            yield f"{size} rows, {order}, {kind}, samples shared", rows, [numbers], size
            yield f"{size} rows, {order}, {kind}, samples apart", rows, apart(requests, numbers), size
    for order, numbers in orders.items():
        yield f"1 row, {order}", SlotRows, [numbers], 1
    yield "1 row, every reply with new rows", SlotRows, [[number] for number in given], 1


def compare(
    model: PreTrainedModel, requests: Sequence[ReplyRequest], chosen: Sequence[Way]
) -> Iterator[tuple[str, int]]:
    """(name, replies that differ from those of the first way) of every other way."""
    first, *others = chosen
    expected = generate(first[1], model, requests, *first[2:])
    assert len(expected) == len(requests), "every request has a reply"
    for name, rows, queues, size in others:
        found = generate(rows, model, requests, queues, size)
        yield name, sum(found[number] != ids for number, ids in expected.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, requests = peaked_model(SIZES), make_requests(options.prompts)
    began, different = time.process_time(), 0
    for count, (name, differences) in enumerate(compare(model, requests, list(ways(requests))), start=2):
        different += differences
        seconds = time.process_time() - began
        print(f"{seconds:4.0f} CPU seconds, way {count}: {differences} differ ({name})", file=sys.stderr, flush=True)
    print(f"{len(requests):,} replies to {options.prompts} prompts in {count} ways: {different} differ")
    if different:
        raise SystemExit("a reply depends on more than its request")


if __name__ == "__main__":
    main()
