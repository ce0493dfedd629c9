"""The cards of runs of the built-in recipes have what the published cards have, and say nothing that is not so."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.publish.card.card_runs import add_results, as_from_hub, copy_run
from tests.publish.card.originals import ORIGINALS, Absent
from tunesmith.generate.export_directory import open_engine
from tunesmith.model.stock_tokenizer import load_stock_tokenizer
from tunesmith.publish.card.writing import write_card
from tunesmith.publish.hub.contents import find_files
from tunesmith.publish.hub.findings import find_private
from tunesmith.recipe.licenses import HUB_LICENSES
from tunesmith.text.tree import Message


def ignore(text: str) -> None:
    pass


@pytest.fixture(scope="session")
def card(trained: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """card("dolly-v2-3b") -> the card of its run, as if its data and models had come from the hub."""
    root = tmp_path_factory.mktemp("written")

    def write(name: str) -> Path:
        run = copy_run(trained(name), root / name)
        if name != "flan-t5-dolly-xxl":
            add_results(run)
        as_from_hub(run)
        with contextlib.chdir(root):
            return write_card(run, ignore)

    return cache(write)


def metadata(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = ModelCard.load(path).data.to_dict()
    return found


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_card_has_every_field_and_every_part_of_the_original(name: str, card: Callable[[str], Path]) -> None:
    found, text = metadata(card(name)), card(name).read_text()
    for key, wanted in ORIGINALS[name].fields.items():
        assert (key in found) == (not isinstance(wanted, Absent)), key
    for part, wanted in ORIGINALS[name].parts.items():
        assert isinstance(wanted, Absent) or wanted in text, part
    assert "More Information Needed" not in text


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_metadata_are_valid_for_the_hub(name: str, card: Callable[[str], Path]) -> None:
    found = metadata(card(name))
    assert found["license"] in HUB_LICENSES
    assert all(re.fullmatch(r"[a-z]{2,3}", code) for code in found["language"])
    assert found["library_name"] == "transformers"
    for repository in (*found.get("datasets", []), *filter(None, [found.get("base_model")])):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", repository)
    loaded = ModelCard.load(card(name))
    assert ModelCard(str(loaded)).data.to_dict() == found
    if "model-index" in found:
        assert loaded.data.model_name == name
        assert {result.metric_value for result in loaded.data.eval_results} == {0.75}
        assert len(loaded.data.eval_results) == 8  # all tasks, and none of the other model


def test_results_of_registered_benchmarks_are_files(card: Callable[[str], Path]) -> None:
    export = card("dolly-v2-3b").parent
    assert [path.name for path in (export / ".eval_results").iterdir()] == ["gsm8k.yaml"]
    (entry,) = yaml.safe_load((export / ".eval_results/gsm8k.yaml").read_text())
    assert entry["dataset"] == {"id": "openai/gsm8k", "task_id": "gsm8k"}
    assert entry["value"] == 75.0


@pytest.mark.parametrize("name", ORIGINALS)
def test_widget_prompts_are_what_the_model_was_trained_to_read(name: str, card: Callable[[str], Path]) -> None:
    export = card(name).parent
    engine, _ = open_engine(export)
    stock = load_stock_tokenizer(export)
    questions = yaml.safe_load((export.parent / "recipe.yaml").read_text())["card"]["prompts"]
    texts = [entry["text"] for entry in metadata(card(name))["widget"]]
    assert len(texts) == len(questions)
    for text, question in zip(texts, questions, strict=True):
        assert list(stock(text)["input_ids"]) == engine.renderer.prompt([Message("user", question)])
        assert text.rstrip("\n") in card(name).read_text() or text != texts[0]


def table_rows(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with ``first``."""
    lines = text[text.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("name", ORIGINALS)
def test_counts_and_hyperparameters_are_those_of_the_run(name: str, card: Callable[[str], Path]) -> None:
    text, run = card(name).read_text(), card(name).parent.parent
    manifest = json.loads((run / "manifest.json").read_text())
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    for row in table_rows(text, "source"):
        counts = manifest["data"]["report"]["sources"][row[0].strip("`")]
        shown = [int(row[index].replace(",", "")) for index in (3, 4, 6, 7)]
        assert shown == [counts[key] for key in ("records", "used", "tokens", "trained")]
        assert sum(map(int, re.findall(r": (\d+)", row[5]))) == sum(counts["rejected"].values())
    keys = 0
    for _, value, source in table_rows(text, "hyper-parameter"):
        key = source.split("`")[-2]
        wanted: Any = recipe
        for part in key.split("."):
            wanted = wanted[part]
        keys += 1
        shown_value = value.strip("`")
        if isinstance(wanted, bool):
            assert shown_value == str(wanted).lower(), key
        elif isinstance(wanted, int | float):
            assert float(shown_value.split()[0].replace(",", "")) == pytest.approx(wanted, rel=1e-5), key
        elif isinstance(wanted, dict):
            assert shown_value.startswith(wanted["kind"]), key
        else:
            assert shown_value.startswith(str(wanted)), key
    assert keys > 10
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert f"{sum(step.get('tokens', 0) for step in steps):,} tokens, of which" in text


@pytest.mark.parametrize("name", ORIGINALS)
def test_an_export_with_its_card_holds_nothing_private(name: str, card: Callable[[str], Path]) -> None:
    files = find_files(card(name).parent)
    assert {"README.md", "recipe.yaml", "run-manifest.json", "tokenizer.json"} <= set(files)
    assert find_private(files, {}) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "oasst-sft-4-pythia-12b",
            "Before a message of the user the format writes `<|prompter|>`, after it `<|endoftext|>`. Before a reply "
            "the format writes `<|assistant|>`, after it `<|endoftext|>`. A prompt ends with `<|assistant|>`, which "
            "asks for a reply.",
        ),
        (
            "tulu-2.5-dpo-13b-uf-overall",
            "Before a reply the format writes `<|assistant|>\\n`, after it `</s>`. A prompt ends with "
            "`<|assistant|>\\n`, which asks for a reply. Here `\\n` is a line break.",
        ),
        ("dolly-v2-3b", "A prompt ends with `### Response:\\n`, which asks for a reply. Here `\\n` is a line break."),
    ],
)
def test_the_card_says_which_token_opens_which_turn(name: str, said: str, card: Callable[[str], Path]) -> None:
    assert said in card(name).read_text()


def test_languages_are_those_of_the_data(card: Callable[[str], Path]) -> None:
    """The card of SFT-4 gives English only, although it was trained on 20 languages."""
    assert metadata(card("oasst-sft-4-pythia-12b"))["language"] == ["en", "de"]
    assert metadata(card("oasst-sft-1-pythia-12b"))["language"] == ["en"]
    assert "German 25.0 %" in card("oasst-sft-4-pythia-12b").read_text()


def test_a_card_names_no_base_model_that_was_not_used(card: Callable[[str], Path]) -> None:
    for name in ORIGINALS:
        path = card(name)
        prose = path.read_text().split("```yaml")[0]
        if name.startswith("tulu"):
            assert metadata(path)["base_model"] == "allenai/tulu-2-13b"
            assert "Llama-2" not in prose
        else:
            assert "base_model" not in metadata(path)
            assert "trained from random weights" in prose
            assert not re.search(r"EleutherAI|andreaskoepf|billion|google/flan", prose)


def test_measured_limitations_have_intervals_and_sources(card: Callable[[str], Path]) -> None:
    text = card("oasst-sft-1-pythia-12b").read_text()
    limits = text[text.index("## Limitations") :]
    assert "50.0 % (18.8 % to 81.2 %) of the replies sampled with `k50` (`report.json`) were ended by the" in limits
    assert "of the replies sampled with `k50` (`report.json`) repeat the same words in a loop" in limits
    assert "of the greedy replies to validation prompts were ended" in card("flan-t5-dolly-xxl").read_text()


def test_every_section_with_numbers_names_its_files(card: Callable[[str], Path]) -> None:
    for path in map(card, ORIGINALS):
        for section in path.read_text().split("<!-- tunesmith:section ")[1:]:
            if section.startswith(("own-", "citation", "intended-use")):
                continue
            prose = re.sub(r"```.*?```|\]\([^)]*\)|<!--.*?-->", "", section, flags=re.DOTALL)
            assert not re.search(r"\d", prose) or ".json" in section or "recipe.yaml" in section, section[:60]


def test_shares_without_a_label_are_percentages_like_their_intervals(card: Callable[[str], Path]) -> None:
    text = card("flan-t5-dolly-xxl").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| validation data", "| all "))]
    heads, values = ([cell.strip() for cell in row.split("|")] for row in rows)
    stopped = dict(zip(heads, values, strict=True))["stopped"]
    assert re.fullmatch(r"[\d.]+ % \([\d.]+ % to [\d.]+ %\)", stopped), stopped
