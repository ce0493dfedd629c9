"""Recipes that `tunesmith init` writes: they load, pass `tunesmith check`, and say what was measured."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM

from tests.text.small_tokenizers import byte_level, t5_like, write_tokenizer
from tests.worlds import ARCHITECTURES
from tunesmith.cli.init import init
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.draft.base_model import find_base_model
from tunesmith.compose.draft.least_limits import find_least_limits
from tunesmith.compose.draft.survey import survey
from tunesmith.data.dataset.rendering import RenderSettings, load_renderer
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import DataError, MissingInputError, RecipeError, TunesmithError, UsageError
from tunesmith.model.load import new_model
from tunesmith.model.reward_model import new_reward_model
from tunesmith.recipe.load import LoadedRecipe, load
from tunesmith.recipe.reading import read_text, to_plain
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tree import Message, Tree

ROWS = [{"question": f"Say {number}.", "answer": f"It is {number}."} for number in range(40)]
PAIRS = [{"prompt": row["question"], "chosen": row["answer"], "rejected": "No."} for row in ROWS]
END = "<|endoftext|>"
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% if m['role'] == 'assistant' %}"
    f"{END}{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}<|assistant|>{{% endif %}}"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a cache of its own and a small model in `model`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["tunesmith"])
    write_model(tmp_path / "model")
    return tmp_path


def write_model(directory: Path, architecture: str = "llama", template: str | None = None) -> None:
    if architecture == "t5":
        write_tokenizer(directory, t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    else:
        write_tokenizer(directory, byte_level(), bos=END, eos=END, unk=END)
    sizes: dict[str, Any] = to_plain(read_text(ARCHITECTURES[architecture], "sizes", lines=False))
    limit = {} if architecture == "t5" else {"max_position_embeddings": 256}
    new_model({**sizes, **limit}, 1024, 0).save_pretrained(directory)
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)


def write_judge(directory: Path) -> None:
    """A small reward model."""
    sizes = {key: value for key, value in yaml.safe_load(ARCHITECTURES["llama"]).items() if key != "architecture"}
    judge = new_reward_model({"architecture": "llama", **sizes, "max_position_embeddings": 256}, 1024, 0)
    judge.save_pretrained(directory)
    write_tokenizer(directory, byte_level(), bos=END, eos=END, unk=END)


def write_rows(path: str, rows: Sequence[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def drafted(data: str, *, model: str = "model", **words: Any) -> LoadedRecipe:
    init(data, model=model, output=Path("mine.yaml"), force=True, **words)
    return load(["mine.yaml"])


def check_passes(loaded: LoadedRecipe) -> None:
    report = collect_checks(loaded, lambda *_: None).report
    assert not [check for check in report.checks if check.status == "fail"]


def test_a_recipe_of_questions_and_answers_passes_all_checks_as_it_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("faq.jsonl", ROWS)
    loaded = drafted("faq.jsonl")
    check_passes(loaded)
    recipe, text = loaded.recipe, Path("mine.yaml").read_text()
    assert recipe.data.sources[0].fields == {"instruction": "question", "output": "answer"}
    assert (recipe.name, recipe.model.path, recipe.text.format) == ("mine", "model", "chatml")
    assert recipe.data.validation == 2
    assert len(text.splitlines()) <= 30
    assert "\nextends: sft  # `tunesmith show mine.yaml` prints all values\n" in text
    printed = capsys.readouterr().out
    assert "faq.jsonl:1\n  user       Say 0.\n  assistant  It is 0.\n" in printed
    assert "40 records were read, 40 can be used\n" in printed
    assert printed.endswith(
        "wrote mine.yaml. Next:\n  tunesmith check mine.yaml\n  tunesmith train mine.yaml\n  tunesmith chat runs/mine\n"
    )
    assert max(map(len, printed.splitlines())) <= 100


def test_lengths_are_those_of_the_model_and_what_is_too_long_is_counted(here: Path) -> None:
    write_rows("faq.jsonl", [*ROWS * 5, {"question": "Say all.", "answer": "number " * 500}])
    loaded = drafted("faq.jsonl")
    found = survey(
        SourceConfig("faq", "faq.jsonl", "alpaca", fields=loaded.recipe.data.sources[0].fields), loaded.recipe, print
    )
    assert len(found.lengths) == 201
    assert sum(length > loaded.recipe.text.max_length for length in found.lengths) == 1
    comment = Path("mine.yaml").read_text()
    assert f"1 of 201 records (0.5%) are longer (up to {max(found.lengths):,}) and are left out" in comment
    assert "# 190 records / 4 = 48 steps, x 3 epochs = 144 steps\n" in comment


LONG = "number " * 500
MANY = [{"question": f"Say {number}.", "answer": f"It is {number}."} for number in range(200)]


@pytest.mark.parametrize(
    ("rows", "model", "words"),
    [
        ([*ROWS, *[{"question": "Say all.", "answer": LONG + str(n)} for n in range(9)]], "model", {}),
        ([*PAIRS, *[{**PAIRS[0], "rejected": LONG + str(n)} for n in range(9)]], "model", {}),
        ([*PAIRS, *[{**PAIRS[n], "chosen": LONG} for n in range(9)]], "model", {"objective": "reward"}),
        ([*PAIRS, *[{**PAIRS[n], "rejected": PAIRS[n]["chosen"] + " "} for n in range(9)]], "model", {}),
        ([*[{"prompt": f"Say {n}."} for n in range(40)], *[{"prompt": LONG[: 900 + n]} for n in range(9)]], "ppo", {}),
        ([*MANY, {"question": "Say all.", "answer": LONG}], "t5", {}),
    ],
)
def test_the_steps_are_those_of_the_records_that_check_keeps(
    here: Path, rows: Sequence[dict[str, Any]], model: str, words: dict[str, Any]
) -> None:
    if model == "t5":
        write_model(here / "t5", "t5")
    if model == "ppo":
        write_judge(here / "judge")
        model, words = "model", {"reward": "judge"}
    write_rows("mine.jsonl", rows)
    loaded = drafted("mine.jsonl", model=model, **words)
    found = collect_checks(loaded, lambda *_: None, with_model=False).report.facts["data"]
    text = Path("mine.yaml").read_text()
    trained, held_out = found["train"]["records"], found["validation"]["records"]
    assert f"validation: {held_out}  # of {trained + held_out} records\n" in text
    assert re.search(rf"batch_size: \d+  # (of )?{trained} (records|prompts)", text)


def test_the_longest_reply_of_a_conversation_is_left_out_and_the_conversation_is_not(here: Path) -> None:
    write_rows("mine.jsonl", ROWS)
    settings = RenderSettings("model", "chatml", 1)
    renderer = load_renderer(replace(settings, max_length=64))
    short, long = (Message("assistant", each) for each in ("It is short.", LONG))
    tree = Tree((Message("user", "Say it."), short, long), (-1, 0, 0))
    (tokens,) = renderer.render_many([tree])
    (alone,) = renderer.render_many([Tree(tree.messages[:2], (-1, 0))])
    assert find_least_limits(settings, tokens, renderer.opening) == (len(alone.ids),)
    assert find_least_limits(replace(settings, truncation="right"), tokens, renderer.opening) == (len(alone.ids),)


def test_a_survey_of_a_part_estimates_the_whole(here: Path) -> None:
    write_rows("faq.jsonl", ROWS)
    loaded = drafted("faq.jsonl")
    config = SourceConfig("faq", "faq.jsonl", "alpaca", fields=loaded.recipe.data.sources[0].fields)
    found = survey(config, loaded.recipe, lambda *_: None, limit=20)
    assert (found.read, found.is_complete) == (20, False)
    assert 35 <= found.usable <= 45
    assert survey(config, loaded.recipe, lambda *_: None).usable == 40


def test_a_model_with_a_chat_template_keeps_it(here: Path) -> None:
    write_model(here / "chatty", template=TEMPLATE)
    write_rows("faq.jsonl", ROWS)
    loaded = drafted("faq.jsonl", model="chatty")
    assert loaded.recipe.text.format == "tokenizer"
    check_passes(loaded)


@pytest.mark.parametrize("format", ["dolly", "tokenizer"])
def test_an_export_goes_on_with_its_own_format(here: Path, format: str) -> None:
    write_model(here / "exported", template=TEMPLATE)
    options = template_options("exported") if format == "tokenizer" else {}
    (here / "exported" / "tunesmith.json").write_text(json.dumps({"format": format, "options": options}))
    write_rows("faq.jsonl", ROWS)
    loaded = drafted("faq.jsonl", model="exported")
    assert (loaded.recipe.text.format, loaded.recipe.text.options) == (format, {})
    check_passes(loaded)


def test_an_export_that_is_older_than_its_run_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("faq.jsonl", ROWS)
    write_model(here / "run" / "export")
    (here / "run" / "export" / "tunesmith.json").write_text(json.dumps({"format": "chatml", "options": {}, "steps": 8}))
    (here / "run" / "recipe.yaml").write_text("")
    newest = here / "run" / "checkpoints" / "step-00000012"
    for step, is_named in ((8, False), (12, True)):
        newest.with_name(f"step-{step:08}").mkdir(parents=True)
        drafted("faq.jsonl", model="run")
        assert ("run: this is the export of step 8; the newest checkpoint is" in capsys.readouterr().err) is is_named


def test_a_chat_template_that_cannot_be_used_is_replaced_and_that_is_said(here: Path) -> None:
    write_model(here / "broken", template="{{ raise_exception('no') }}")
    write_rows("faq.jsonl", ROWS)
    assert drafted("faq.jsonl", model="broken").recipe.text.format == "chatml"
    assert "# the tokenizer's own chat template cannot be used: " in Path("mine.yaml").read_text()


def test_an_encoder_decoder_gets_its_format_and_two_limits(here: Path) -> None:
    write_model(here / "t5", "t5")
    write_rows("faq.jsonl", ROWS)
    loaded = drafted("faq.jsonl", model="t5")
    assert loaded.recipe.text.format == "t5-dolly"
    assert loaded.recipe.text.max_target_length is not None
    check_passes(loaded)
    write_rows("pairs.jsonl", PAIRS)
    with pytest.raises(TunesmithError, match="reward"):
        drafted("pairs.jsonl", model="t5", objective="reward")


def test_documents_get_a_format_without_turns(here: Path) -> None:
    write_rows("stories.jsonl", [{"text": f"Once upon a time {number}."} for number in range(40)])
    loaded = drafted("stories.jsonl")
    assert (loaded.recipe.data.sources[0].reader, loaded.recipe.text.format) == ("text", "plain")
    check_passes(loaded)


@pytest.mark.parametrize("objective", [None, "reward"])
def test_preferences_become_dpo_or_a_reward_model(here: Path, objective: str | None) -> None:
    write_rows("pairs.jsonl", PAIRS)
    loaded = drafted("pairs.jsonl", objective=objective)
    assert loaded.recipe.objective.kind == (objective or "dpo")
    check_passes(loaded)


def test_prompts_become_ppo_with_a_reward_model(here: Path) -> None:
    write_rows("prompts.jsonl", [{"prompt": row["question"]} for row in ROWS])
    with pytest.raises(RecipeError, match="PPO needs a reward model that scores the replies; add --reward RUN"):
        drafted("prompts.jsonl")
    with pytest.raises(RecipeError, match="model: this is not a reward model"):
        drafted("prompts.jsonl", reward="model")
    write_judge(here / "judge")
    loaded = drafted("prompts.jsonl", reward="judge")
    assert loaded.recipe.objective.kind == "ppo"


def test_the_numbers_of_the_recipe_are_those_of_the_run(here: Path) -> None:
    write_rows("faq.jsonl", (ROWS * 2)[:60])
    drafted("faq.jsonl")
    text = Path("mine.yaml").read_text()
    parameters = AutoModelForCausalLM.from_pretrained("model").num_parameters()
    assert find_base_model("model").parameters == parameters
    assert f"llama, about {parameters / 1000:.3g} thousand parameters, " in text
    assert "batch_size: 4  # 57 records / 4 = 15 steps, x 3 epochs = 45 steps\n" in text
    assert "evaluate_every: 0.25  # of a short run, as often as it is saved\n" in text
    assert "log_every: 4\n" in text
    write_rows("faq.jsonl", (ROWS * 200)[:600])
    drafted("faq.jsonl")
    assert [word for word in Path("mine.yaml").read_text().split() if word.endswith("_every:")] == ["log_every:"]


def test_a_few_records_are_not_split(here: Path) -> None:
    write_rows("faq.jsonl", ROWS[:7])
    loaded = drafted("faq.jsonl")
    assert (loaded.recipe.data.validation, loaded.recipe.train.evaluate_every) == (0, None)
    check_passes(loaded)


def test_a_few_bad_records_are_left_out_and_that_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("faq.jsonl", [*ROWS * 5, {"question": "Say.", "answer": ""}])
    loaded = drafted("faq.jsonl")
    check_passes(loaded)
    assert loaded.recipe.data.on_bad == "skip"
    assert "1 cannot be used and are left out; the first is faq.jsonl:201: field 'answer' is empty" in (
        capsys.readouterr().out
    )


def test_many_bad_records_are_an_error_with_the_first_of_them(here: Path) -> None:
    write_rows("faq.jsonl", [*ROWS, *[{"question": "Say.", "answer": ""}] * 4])
    with pytest.raises(DataError) as refused:
        drafted("faq.jsonl")
    assert str(refused.value) == (
        "faq.jsonl: 4 of 44 records cannot be used; the first is faq.jsonl:41: field 'answer' is empty (fix the "
        "record, or add --option empty=drop); correct or remove them and run the command again"
    )
    assert drafted("faq.jsonl", option=["empty=drop"]).recipe.data.sources[0].options == {"empty": "drop"}


def test_a_recipe_is_not_overwritten_unless_that_is_asked_for(here: Path) -> None:
    write_rows("faq.jsonl", ROWS)
    init("faq.jsonl", model="model")
    before = Path("faq.yaml").read_text()
    with pytest.raises(UsageError, match=r"faq\.yaml exists; name another file with -o, or add --force"):
        init("faq.jsonl", model="model")
    assert Path("faq.yaml").read_text() == before
    init("faq.jsonl", model="model", force=True)


def test_a_directory_that_is_no_model_is_refused(here: Path) -> None:
    write_rows("faq.jsonl", ROWS)
    (here / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"empty: .*config.json"):
        drafted("faq.jsonl", model="empty")
    with pytest.raises(MissingInputError, match=r"--model ./absent: there is no such directory; check the path"):
        drafted("faq.jsonl", model="./absent")
