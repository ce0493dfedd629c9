"""Schedules reproduce the rates of the systems they are named after, and are pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_constant_schedule_with_warmup

from tunesmith.train.optim.schedules import (
    SCHEDULES,
    Schedule,
    constant,
    cosine,
    cosine_with_restarts,
    inverse_square_root,
    lagged,
    linear,
    logarithmic,
    polynomial,
    product_of_factors,
    warmup_steps,
)

Golden = Callable[[str], dict[str, Any]]


def cases(golden: Golden, kind: str) -> list[dict[str, Any]]:
    found = [case for case in golden("schedules")["cases"] if case["kind"] == kind]
    assert found
    return found


def assert_rates(schedule: Schedule, steps: list[int], expected: list[float], tolerance: float, case: str) -> None:
    for step, rate in zip(steps, expected, strict=True):
        assert schedule(step) == pytest.approx(rate, rel=tolerance, abs=1e-20), (case, step)


def deepspeed(settings: dict[str, Any], *, lag: bool) -> Schedule:
    peak, minimum, warmup = settings["warmup_max_lr"], settings["warmup_min_lr"], settings["warmup_num_steps"]
    old = settings["deepspeed"] in ("0.8.3", "0.9.5")
    if settings.get("warmup_type") == "linear":
        line = constant(peak, warmup, start=minimum)
        return lagged(line, settings["optimizer_initial_lr"] if old else minimum) if lag else line
    return logarithmic(
        peak,
        warmup,
        settings.get("total_num_steps", 0),
        decay="linear" if settings["schedule"] == "WarmupDecayLR" else "none",
        minimum=minimum,
        lag=lag,
        first_at_peak=lag and old,
    )


def test_the_logarithmic_warmup_is_deepspeeds_scheduled_and_used_rate(golden: Golden) -> None:
    for case in cases(golden, "deepspeed"):
        steps, expected = case["input"]["steps"], case["expected"]
        scheduled, used = deepspeed(case["settings"], lag=False), deepspeed(case["settings"], lag=True)
        assert_rates(scheduled, steps, expected["lr_after_scheduler_step"], 1e-12, case["id"])
        assert_rates(used, steps, expected["lr_used_by_optimizer_step"], 1e-12, case["id"])


def test_the_rates_of_transformers_are_reproduced(golden: Golden) -> None:
    build: dict[str, Callable[..., Schedule]] = {
        "linear": linear,
        "cosine": cosine,
        "constant": constant,
        "constant_with_warmup": constant,
        "cosine_with_restarts": cosine_with_restarts,
        "polynomial": polynomial,
        "inverse_sqrt": inverse_square_root,
    }
    for case in cases(golden, "hf"):
        of = case["settings"]
        schedule = build[of["schedule"]](of["lr"], of["num_warmup_steps"], of["num_training_steps"])
        assert_rates(schedule, case["input"]["steps"], case["expected"]["lr"], 1e-12, case["id"])


def test_the_reference_dpo_warmup_is_a_constant_schedule_read_one_step_ahead(golden: Golden) -> None:
    for case in cases(golden, "reference_dpo"):
        ahead = constant(case["settings"]["lr"], case["settings"]["warmup_steps"] + 1)
        steps = [step + 1 for step in case["input"]["steps"]]
        assert_rates(ahead, steps, case["expected"]["lr"], 1e-12, case["id"])


def test_cosine_annealing_of_torch_is_the_cosine_without_warmup(golden: Golden) -> None:
    for case in cases(golden, "cosine_annealing"):
        of = case["settings"]
        schedule = cosine(of["lr"], 0, of["T_max"], minimum=of["eta_min"])
        assert_rates(schedule, case["input"]["steps"], case["expected"]["lr"], 1e-9, case["id"])


def test_the_linear_schedule_of_easylm_is_reproduced(golden: Golden) -> None:
    for case in cases(golden, "easylm"):
        of = case["settings"]
        schedule = linear(of["lr"], of["lr_warmup_steps"], of["lr_decay_steps"], end=of["end_lr"], start=of["init_lr"])
        steps = [max(0, step - of.get("lr_freeze_steps", 0)) for step in case["input"]["steps"]]
        for step, rate in zip(steps, case["expected"]["lr"], strict=True):  # float32, subtracted from 1 near the end
            assert schedule(step) == pytest.approx(rate, rel=1e-6, abs=1e-7 * of["lr"]), (case["id"], step)


def factors_of_t5x(settings: dict[str, Any]) -> Schedule:
    options = {key: settings[key] for key in ("decay_factor", "steps_per_decay", "steps_per_cycle") if key in settings}
    return product_of_factors(
        settings["base_learning_rate"],
        settings.get("warmup_steps", 1000),
        factors=[name.strip() for name in settings["factors"].split("*")],  # type: ignore[misc]
        initial_step=-settings.get("step_offset", 0),
        **options,
    )


def test_the_products_of_factors_of_t5x_are_reproduced(golden: Golden) -> None:
    found = cases(golden, "t5x")
    assert len(found) == 9
    for case in found:
        schedule, base = factors_of_t5x(case["settings"]), case["settings"]["base_learning_rate"]
        # Float32: a difference from 1 has seven digits, a position in a cycle one less for every ten cycles before it.
        cycle = case["settings"].get("steps_per_cycle", math.inf)
        for step, rate in zip(case["input"]["steps"], case["expected"]["lr"], strict=True):
            lost = base * (1e-7 + 2e-7 * step / cycle)
            assert schedule(step) == pytest.approx(rate, rel=1e-6, abs=lost), (case["id"], step)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"factors": "constant"}, 2),
        ({"warmup_steps": 90}, 2),
        ({"decay_factor": 0.03}, 3),
        ({"factors": "linear_decay"}, 4),
        ({"factors": "constant * rsqrt_decay"}, 5),
        ({"steps_per_decay": 29}, 6),
        ({"steps_per_cycle": 41}, 7),
        ({"step_offset": 0}, 8),
    ],
)
def test_a_changed_factor_is_seen(golden: Golden, change: dict[str, Any], number: int) -> None:
    case = cases(golden, "t5x")[number]
    schedule = factors_of_t5x({**case["settings"], **change})
    rates = [schedule(step) for step in case["input"]["steps"]]
    assert rates != pytest.approx(case["expected"]["lr"], rel=1e-6)


def test_an_initial_step_continues_the_count_of_pretraining() -> None:
    schedule = product_of_factors(1.0, 10_000, factors=("constant", "rsqrt_decay"), initial_step=1_000_000)
    assert schedule(0) == pytest.approx(1e-3)


def test_steps_and_warmup_of_easylm_count_optimizer_steps(golden: Golden) -> None:
    for case in cases(golden, "easylm_plan"):
        of, expected = case["settings"], case["expected"]
        total = (case["input"]["examples"] // of["batch_size"] * of["num_epochs"]) // of["accumulate_gradient_steps"]
        assert total == expected["total_steps"]
        assert warmup_steps(of["warmup_ratio"], total) == expected["warmup_steps"]
        schedule = linear(of["lr"], expected["warmup_steps"], total)
        every = of["accumulate_gradient_steps"]
        for micro_step, update in enumerate(expected["updates_per_micro_step"]):
            rate = schedule(micro_step // every) if micro_step % every == every - 1 else 0.0
            assert -update == pytest.approx(rate, rel=1e-4, abs=1e-12), (case["id"], micro_step)


def test_a_schedule_equals_torchs_own_scheduler() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=17, eta_min=1e-6)
    ours = cosine(3e-4, 0, 17, minimum=1e-6)
    for step in range(17):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_the_old_deepspeed_defect_needs_its_switch() -> None:
    assert logarithmic(1e-3, 10, lag=True)(0) == 0.0
    assert logarithmic(1e-3, 10, first_at_peak=True)(0) == 0.0, "without lag the switch has no meaning"
    assert logarithmic(1e-3, 10, lag=True, first_at_peak=True)(0) == 1e-3
    assert logarithmic(1e-3, 10, lag=True, first_at_peak=True)(1) == 0.0


def test_a_warmup_begins_at_zero_and_has_its_length_as_in_transformers() -> None:
    schedule = constant(1.0, 4, 10)
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    scheduler = get_constant_schedule_with_warmup(torch.optim.SGD(parameters, lr=1.0), 4)
    for step in range(8):
        assert schedule(step) == scheduler.lr_lambdas[0](step) == min(1.0, step / 4)


def test_restarts_begin_again_at_the_peak() -> None:
    schedule = cosine_with_restarts(1.0, 0, 40, cycles=2)
    assert [schedule(0), schedule(20)] == [1.0, 1.0]
    assert schedule(19) < 0.01
    assert schedule(40) == 0.0


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@given(peak=st.floats(1e-8, 1.0), warmup=st.integers(0, 40), total=st.integers(1, 100), step=st.integers(0, 99))
def test_every_schedule_is_finite_and_within_its_bounds(
    name: str, peak: float, warmup: int, total: int, step: int
) -> None:
    schedule = SCHEDULES[name](peak, warmup, total)
    rate = schedule(step)
    assert math.isfinite(rate)
    assert -1e-12 <= rate <= max(peak, 1e-7) * (1 + 1e-12)
    assert rate == schedule(step)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_reaches_its_peak_after_the_warmup(name: str) -> None:
    assert SCHEDULES[name](1.0, 10, 100)(10) == pytest.approx(1.0)
