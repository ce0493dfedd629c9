"""`tunesmith benchmark` on tiny models: the numbers of lm-evaluation-harness, resuming, chats, replies."""

from __future__ import annotations

import io
import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.benchmark.small_tasks import write_lines, write_model, write_tasks
from tunesmith.apps.benchmark import BenchmarkOptions, run
from tunesmith.benchmark import scoring
from tunesmith.benchmark.language_model import read_generation
from tunesmith.benchmark.suites import DOLLY
from tunesmith.errors import DataError, UsageError
from tunesmith.files import write_json
from tunesmith.generate.sampling import SamplingParameters

COMPARED = ("benchmark.json", "benchmark.md", "benchmark.csv", "items-1.jsonl")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    root = tmp_path_factory.mktemp("benchmark")
    write_tasks(root / "data")
    for architecture in ("gpt_neox", "llama", "t5"):
        write_model(root / architecture, architecture)
    write_model(root / "other", "gpt_neox", seed=2)
    return lambda name: str(root / name)


def options_for(places: Callable[[str], str], output: Path, **values: Any) -> BenchmarkOptions:
    return replace(BenchmarkOptions(("dolly",), places("data"), output), **values)


def call(models: list[str], options: BenchmarkOptions) -> tuple[str, dict[str, Any]]:
    screen = io.StringIO()
    run(models, options, screen)
    content: dict[str, Any] = json.loads((options.output / "benchmark.json").read_text())
    return screen.getvalue(), content


def items_of(output: Path, number: int = 1) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / f"items-{number}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "t5"])
def test_all_numbers_are_those_of_the_harness(architecture: str, places: Callable[[str], str], tmp_path: Path) -> None:
    model = places(architecture)
    _, ours = call([model], options_for(places, tmp_path / "tree"))
    _, stock = call([model], options_for(places, tmp_path / "hf", engine="hf"))
    assert list(ours["models"][0]["tasks"]) == list(DOLLY)
    for name, task in ours["models"][0]["tasks"].items():
        other = stock["models"][0]["tasks"][name]
        same = ("score", "metrics", "version", "truncated", "items_sha256", "data_sha256")
        assert {key: task[key] for key in same} == {key: other[key] for key in same}
        assert task["tokens"]["computed"] <= task["tokens"]["naive"]
        assert other["tokens"] is None
    for item, other in zip(items_of(tmp_path / "tree"), items_of(tmp_path / "hf"), strict=True):
        assert {**item, "responses": 0} == {**other, "responses": 0}
        for (value, greedy), (expected, expected_greedy) in zip(item["responses"], other["responses"], strict=True):
            assert value == pytest.approx(expected, abs=1e-4, rel=2.4e-7)  # the harness adds in float32
            assert greedy == expected_greedy


@pytest.mark.parametrize(("tasks", "positions"), [(("piqa", "boolq"), 60), (("gsm8k",), 288)])
def test_both_engines_count_the_same_items_that_are_too_long(
    tasks: tuple[str, ...], positions: int, tmp_path: Path
) -> None:
    model = str(write_model(tmp_path / "short", positions=positions))
    data = write_tasks(tmp_path / "data")
    rows = [{"question": "red " * (1 + 6 * n), "answer": "It is\n#### 2"} for n in range(4)]
    write_lines(data / "gsm8k.test.jsonl", rows)
    counts = []
    for engine in ("tree", "hf"):
        options = BenchmarkOptions(tasks, str(data), tmp_path / engine, shots=0, engine=engine)
        text, content = call([model], options)
        found = {name: task["truncated"] for name, task in content["models"][0]["tasks"].items()}
        assert "are too long for the model" in " ".join(text.split())
        counts.append(found)
    assert counts[0] == counts[1]
    assert 0 < sum(counts[0].values()) < 5 * len(tasks)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that is looked up or connected to; all of them fail."""
    asked: list[Any] = []

    def refuse(*address: Any, **_: Any) -> None:
        asked.append(address)
        raise OSError("the network is not reachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def test_local_files_need_no_network(connections: list[Any], places: Callable[[str], str], tmp_path: Path) -> None:
    call([places("gpt_neox")], options_for(places, tmp_path, limit=1))
    assert connections == []


def test_data_of_the_hub_without_a_network_are_an_error(
    connections: list[Any], places: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    options = options_for(places, tmp_path, data="hub", tasks=("arc_easy",))
    with pytest.raises(DataError, match="cannot build the tasks"):
        call([places("gpt_neox")], options)
    assert not tmp_path.joinpath("benchmark.json").exists()


def test_normalised_accuracy_divides_by_characters_and_the_first_of_equal_answers_wins(
    places: Callable[[str], str], tmp_path: Path
) -> None:
    call([places("gpt_neox")], options_for(places, tmp_path))
    rows = [json.loads(line) for line in Path(places("data"), "piqa.validation.jsonl").read_text().splitlines()]
    items = [item for item in items_of(tmp_path) if item["task"] == "piqa"]
    for row, item in zip(rows, items, strict=True):
        choices = [row["sol1"], row["sol2"]]
        values = [value / len(text) for (value, _), text in zip(item["responses"], choices, strict=True)]
        assert len("naïve") == 5  # characters; it has six bytes
        assert item["acc_norm"] == float(values.index(max(values)) == row["label"])


def test_two_models_are_compared_on_the_same_items(places: Callable[[str], str], tmp_path: Path) -> None:
    text, content = call(
        [places("gpt_neox"), places("other")], options_for(places, tmp_path, with_published=True, limit=3)
    )
    (difference,) = content["differences"]
    assert [each["task"] for each in difference["tasks"]] == [*DOLLY, "gmean"]
    assert "too few items" in text
    assert "not comparable" in text
    assert len(content["published"]) == 9
    assert max(map(len, text.splitlines()[:-1])) <= 80
    assert len(items_of(tmp_path, 2)) == 21


def test_a_call_that_was_stopped_ends_with_the_same_bytes(
    places: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 64)
    model = [places("gpt_neox")]
    call(model, options_for(places, tmp_path / "whole"))
    compute, calls = scoring.CausalScorer._compute, list[int]()

    def stop_later(self: Any, batch: Any) -> Any:
        calls.append(batch.tokens)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return compute(self, batch)

    monkeypatch.setattr(scoring.CausalScorer, "_compute", stop_later)
    with pytest.raises(KeyboardInterrupt):
        call(model, options_for(places, tmp_path / "resumed"))
    call(model, options_for(places, tmp_path / "resumed"))
    for name in COMPARED:
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    count = len(calls)
    call(model, options_for(places, tmp_path / "resumed"))
    assert len(calls) == count  # everything was in the journals
    call([places("other")], options_for(places, tmp_path / "resumed"))
    assert len(calls) > count  # another model has others


def test_a_chat_and_plain_prompts_are_shown_next_to_each_other(places: Callable[[str], str], tmp_path: Path) -> None:
    options = options_for(places, tmp_path, tasks=("boolq", "winogrande"), chat="both", format="dolly")
    text, content = call([places("gpt_neox")], options)
    assert [model["prompts"] for model in content["models"]] == ["plain", "chat, format dolly"]
    assert "prompts as a chat, format dolly" in text
    assert items_of(tmp_path, 1) != items_of(tmp_path, 2)
    with pytest.raises(UsageError, match="--engine hf writes chats in its own way"):
        call([places("gpt_neox")], replace(options, engine="hf"))


def test_a_format_is_for_the_models_that_declare_none(places: Callable[[str], str], tmp_path: Path) -> None:
    shutil.copytree(places("gpt_neox"), tmp_path / "assistant")
    write_json(tmp_path / "assistant/tunesmith.json", {"format": "dolly"})
    options = options_for(places, tmp_path / "o", tasks=("boolq",), limit=2, chat="yes", format="plain")
    _, content = call([places("gpt_neox"), str(tmp_path / "assistant")], options)
    assert [model["prompts"] for model in content["models"]] == ["chat, format plain", "chat, format dolly"]


def test_examples_of_a_format_with_one_turn_are_in_the_same_message(
    places: Callable[[str], str], tmp_path: Path
) -> None:
    data = write_tasks(tmp_path / "data")
    (data / "boolq.train.jsonl").write_bytes((data / "boolq.validation.jsonl").read_bytes())
    options = BenchmarkOptions(("boolq",), str(data), tmp_path / "o", shots=2, chat="yes", format="dolly")
    text, content = call([places("gpt_neox")], options)
    assert content["models"][0]["tasks"]["boolq"]["shots"] == 2
    assert "the examples are in the same message" in " ".join(text.split())


@pytest.mark.parametrize("architecture", ["gpt_neox", "t5"])
def test_replies_are_generated_and_read_by_the_task(
    architecture: str, places: Callable[[str], str], tmp_path: Path
) -> None:
    rows = [{"question": f"What is {n} and {n}?", "answer": f"It is\n#### {2 * n}"} for n in range(3)]
    write_lines(tmp_path / "data" / "gsm8k.test.jsonl", rows)
    write_lines(tmp_path / "data" / "gsm8k.train.jsonl", rows)
    options = BenchmarkOptions(("gsm8k",), str(tmp_path / "data"), tmp_path / "o", shots=1)
    _, content = call([places(architecture)], options)
    task = content["models"][0]["tasks"]["gsm8k"]
    assert (task["metric"], task["items"], task["shots"]) == ("exact_match,strict-match", 3, 1)
    first = (tmp_path / "o" / "items-1.jsonl").read_bytes()
    assert all(isinstance(item["responses"][0], str) for item in items_of(tmp_path / "o"))
    call([places(architecture)], options)
    assert (tmp_path / "o" / "items-1.jsonl").read_bytes() == first


def test_the_probability_of_a_whole_text_is_that_of_the_harness(places: Callable[[str], str], tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance

    from tunesmith.benchmark.language_model import TreeLanguageModel
    from tunesmith.benchmark.models import open_benchmark_model

    model = open_benchmark_model(str(write_model(tmp_path / "short", positions=24)))
    texts = ["The cat sat on the mat. " * 6, "red"]
    asked = [Instance("loglikelihood_rolling", {}, (text,), 0, ("t", n, 1)) for n, text in enumerate(texts)]
    ours = TreeLanguageModel(model.parts(None), {}, tmp_path / "journal").loglikelihood_rolling(asked)
    assert ours == pytest.approx(model.stock(1).loglikelihood_rolling(asked, disable_tqdm=True), abs=1e-4)


def test_what_a_task_asks_of_generation_becomes_sampling_parameters() -> None:
    given = {"until": ["Q:"], "do_sample": False, "temperature": 0.0, "max_gen_toks": 12}
    assert read_generation(given, "</s>", "t") == (
        SamplingParameters(do_sample=False, max_new_tokens=12),
        ("Q:", "</s>"),
    )
    drawn, _ = read_generation({"do_sample": True, "temperature": 0.5, "top_p": 1}, None, "t")
    assert drawn == SamplingParameters(temperature=0.5, max_new_tokens=256)
    with pytest.raises(UsageError, match="num_beams"):
        read_generation({"num_beams": 4}, None, "t")


def test_a_prompt_format_with_tokens_that_the_model_lacks_is_refused_before_anything_is_computed(
    tmp_path: Path,
) -> None:
    model = write_model(tmp_path / "model", tokens=427)
    options = BenchmarkOptions(("piqa",), str(write_tasks(tmp_path / "data")), tmp_path / "o", chat="both")
    with pytest.raises(UsageError, match=r"needs \d+ token ids, but the model has 427; .* --format plain"):
        call([str(model)], replace(options, format="oasst"))
    assert not (tmp_path / "o").exists()
