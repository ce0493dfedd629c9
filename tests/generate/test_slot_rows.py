"""What the slots of ended rows and the prompts that are kept hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from tests.generate.scheduling import generate
from tunesmith.errors import InternalError
from tunesmith.generate.requests import ReplyRequest, StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import Scheduler
from tunesmith.generate.slot_rows import SlotRows

NAN_TOKEN = 63
GREEDY = SamplingParameters(do_sample=False, max_new_tokens=5)
STOPPING = StoppingCriteria((), 64, 96)
GOOD = (1, 2, 3)


@pytest.fixture
def model(random_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """A model that one token makes produce NaN."""
    model = random_model("llama")
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        assert isinstance(table, torch.Tensor)
        table[NAN_TOKEN] = float("nan")
    return model


@pytest.mark.parametrize("before", [(), (8, 9)])
def test_a_slot_whose_row_had_no_finite_numbers_is_used_again(model: PreTrainedModel, before: tuple[int, ...]) -> None:
    """before: a row in front of it, which ends with it, so that the new row is moved or written there."""
    scheduler = Scheduler(SlotRows(model, 3), STOPPING, 3)
    bad = scheduler.add(ReplyRequest((*(4,) * 20, NAN_TOKEN, 5), GREEDY, 0, 0))
    running = [scheduler.add(ReplyRequest(GOOD, GREEDY, 0, 0))]
    running += [scheduler.add(ReplyRequest(before, GREEDY, 0, 0))] if before else []
    with pytest.raises(InternalError, match="not finite"):
        scheduler.step()
    scheduler.cancel(bad)
    found = dict(scheduler.run())
    again = [scheduler.add(ReplyRequest(prompt, GREEDY, 0, 0)) for prompt in (GOOD, (7,), GOOD)]
    found |= dict(scheduler.run())
    (expected,) = generate(SlotRows(model, 1), [GOOD], GREEDY, STOPPING)
    for ticket in (running[0], again[0], again[2]):
        assert list(found[ticket].ids) == expected


def test_a_kept_prompt_has_memory_for_its_own_tokens_only(model: PreTrainedModel) -> None:
    rows = SlotRows(model, 8)
    heads = [(number, 5, 6) for number in range(8)]
    rows.replace([], [(*head, 7) for head in heads])
    for head in heads:
        for keys, values in rows._read[head]:
            for states in (keys, values):
                assert states.untyped_storage().nbytes() == states.numel() * states.element_size()


def test_a_prompt_is_read_once_also_for_replies_that_begin_later(model: PreTrainedModel) -> None:
    """Six replies to one prompt in two rows: four of them begin when others have ended."""
    passes: list[int] = []

    def count(module: object, args: tuple[object, ...], given: dict[str, torch.Tensor]) -> None:
        if given["input_ids"].shape[1] > 1:
            passes.append(given["input_ids"].shape[0])

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    scheduler = Scheduler(SlotRows(model, 2), STOPPING, 2)
    for sample in range(6):
        scheduler.add(ReplyRequest((1, 2, 3, 4), SamplingParameters(max_new_tokens=3), 0, sample))
    assert len(dict(scheduler.run())) == 6
    hook.remove()
    assert passes == [1]
