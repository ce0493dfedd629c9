"""Scores of answers in trees equal those of every text alone, whatever the answers have in common."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.benchmark.small_tasks import write_model
from tunesmith.benchmark import scoring
from tunesmith.benchmark.models import BenchmarkModel, open_benchmark_model
from tunesmith.benchmark.scoring import Answer, AnswerScore

Open = Callable[..., BenchmarkModel]


@pytest.fixture(scope="module")
def open_model(tmp_path_factory: pytest.TempPathFactory) -> Open:
    root = tmp_path_factory.mktemp("models")

    @cache
    def build(architecture: str, positions: int = 512) -> BenchmarkModel:
        directory: Path = write_model(root / f"{architecture}-{positions}", architecture, positions=positions)
        return open_benchmark_model(str(directory))

    return build


def score(model: BenchmarkModel, answers: list[Answer]) -> list[AnswerScore]:
    found: dict[int, AnswerScore] = {}
    for batch, compute in model.scorer.plan(answers):
        scores = compute()
        assert list(scores) == list(batch.answers)
        found |= scores
    return [found[index] for index in range(len(answers))]


def alone(model: BenchmarkModel, answer: Answer) -> AnswerScore:
    """One answer by the stock model: log-softmax at every position, as lm-evaluation-harness does."""
    if model.is_encoder_decoder:
        context, target = answer.context[-model.max_length :], answer.continuation
        decoder = [model.model.config.decoder_start_token_id, *target[:-1]]
        with torch.no_grad():
            ids = torch.tensor([context])
            logits = model.model(input_ids=ids, decoder_input_ids=torch.tensor([decoder])).logits[0]
    else:
        ids, target = (answer.context + answer.continuation)[-(model.max_length + 1) :], answer.continuation
        with torch.no_grad():
            logits = model.model(torch.tensor([ids[:-1]])).logits[0, -len(target) :]
    table = torch.log_softmax(logits.double(), -1)
    wanted = torch.tensor(target)
    greedy = bool((table.argmax(-1) == wanted).all())
    return AnswerScore(float(table.gather(1, wanted[:, None]).sum()), greedy)


def check(model: BenchmarkModel, answers: list[Answer]) -> None:
    for found, answer in zip(score(model, answers), answers, strict=True):
        expected = alone(model, answer)
        assert found.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-4)
        assert found.greedy == expected.greedy


def draw(source: random.Random, size: int) -> tuple[int, ...]:
    return tuple(source.randrange(3, 300) for _ in range(size))


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "t5"])
def test_many_questions_in_one_row_have_the_scores_of_every_text_alone(architecture: str, open_model: Open) -> None:
    source, answers = random.Random(3), []
    for question in range(20):
        context = draw(source, source.randint(1, 40))
        beginning = draw(source, source.randint(0, 3))  # answers that begin alike
        answers += [Answer(question, context, (*beginning, *draw(source, source.randint(1, 6)))) for _ in range(4)]
    source.shuffle(answers)
    check(open_model(architecture), answers)


@pytest.mark.parametrize("architecture", ["gpt_neox", "t5"])
def test_two_contexts_with_one_continuation_share_only_their_beginning(architecture: str, open_model: Open) -> None:
    check(open_model(architecture), [Answer(0, (5, 6, option, 9), (11, 12, 13)) for option in (7, 8)])


@pytest.mark.parametrize("architecture", ["gpt_neox", "t5"])
def test_equal_answers_and_answers_that_begin_another_one_are_each_scored(architecture: str, open_model: Open) -> None:
    check(open_model(architecture), [Answer(0, (5, 6), answer) for answer in ((7,), (7,), (7, 8), (7, 8, 9), (8,))])


def test_of_a_text_that_is_too_long_the_last_tokens_are_kept_as_in_the_harness(open_model: Open) -> None:
    model, source = open_model("gpt_neox", 16), random.Random(4)
    assert model.max_length == 16
    exact = Answer(0, draw(source, 15), draw(source, 2))  # 17 tokens, of which 16 are read
    too_long = [Answer(1, draw(source, 30), draw(source, size)) for size in (1, 5, 16)]
    assert [model.scorer.truncated(each) for each in (exact, *too_long)] == [False, True, True, True]
    check(model, [exact, *too_long])


def test_an_encoder_keeps_the_last_tokens_of_a_context(open_model: Open) -> None:
    model = open_model("t5")
    long = Answer(0, draw(random.Random(5), model.max_length + 3), (7, 8))
    assert model.scorer.truncated(long)
    check(model, [long])


def test_the_greedy_answer_is_found_and_only_it(open_model: Open) -> None:
    model = open_model("gpt_neox")
    with torch.no_grad():
        best = int(model.model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
    found = score(model, [Answer(0, (5, 6, 7), (best,)), Answer(0, (5, 6, 7), (best + 1,))])
    assert [each.greedy for each in found] == [True, False]


def test_a_question_is_read_once_for_all_its_answers(open_model: Open) -> None:
    answers = [Answer(0, tuple(range(10, 50)), (60 + number, 5)) for number in range(4)]
    ((batch, _),) = open_model("gpt_neox").scorer.plan(answers)
    assert batch.tokens == 40 + 4  # last tokens are predicted and not read
    ((batch, _),) = open_model("t5").scorer.plan(answers)
    assert batch.tokens == 40 + 4 * 2


def test_the_plan_depends_on_nothing_but_the_answers(open_model: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 64)
    source = random.Random(6)
    answers = [Answer(number // 2, draw(source, 20), draw(source, 3)) for number in range(24)]
    model = open_model("gpt_neox")
    whole = [compute() for _, compute in model.scorer.plan(answers)]
    assert len(whole) > 3
    later = [compute() for number, (_, compute) in enumerate(model.scorer.plan(answers)) if number >= 2]
    assert later == whole[2:]  # bit for bit
