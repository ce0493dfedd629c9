"""The prompt format of each of several models, before any of them is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.errors import DataError, RecipeError, UsageError
from tunesmith.files import write_json
from tunesmith.generate.model_formats import check_writes_replies, choose_formats
from tunesmith.text.formats.registry import FORMATS
from tunesmith.text.tokenizer.tokenizer import Tokenizer

END = "<|endoftext|>"
TEMPLATE = "{% for m in messages %}" + END + "{{ m.role }}: {{ m.content }}" + END + "{% endfor %}"
TEMPLATE += "{% if add_generation_prompt %}" + END + "assistant: {% endif %}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The small files of a model without a prompt format, whose vocabulary has no free row."""
    write_tokenizer(tmp_path / "base", byte_level(), eos=END)
    write_json(tmp_path / "base/config.json", {"vocab_size": Tokenizer.load(str(tmp_path / "base")).size})
    return tmp_path / "base"


def choose(*paths: Path, format: str | None = None) -> tuple[list[str | None], list[str]]:
    said: list[str] = []
    return choose_formats([str(path) for path in paths], format, said.append), said


def test_a_model_that_declares_a_format_keeps_it_and_a_sentence_says_so(base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "export").mkdir(parents=True)
    write_json(run / "export/config.json", {})
    write_json(run / "export/tunesmith.json", {"format": "chatml"})
    said = [f"{run} keeps its own prompt format, chatml; --format is for models that declare none"]
    assert choose(run, base, format="plain") == ([None, "plain"], said)
    assert choose(run, format="chatml") == ([None], [])
    assert choose(run) == ([None], [])


def test_a_base_model_needs_a_format_and_the_advice_names_one_that_fits(base: Path) -> None:
    with pytest.raises(UsageError, match=r"declares no prompt format: .*; for a base model append --format plain$"):
        choose(base)
    (base / "chat_template.jinja").write_text(TEMPLATE)
    with pytest.raises(UsageError, match=r"append --format tokenizer, which is the chat template of its tokenizer$"):
        choose(base)
    assert choose(base, format="tokenizer") == (["tokenizer"], [])
    write_json(base / "config.json", {"is_encoder_decoder": True})
    with pytest.raises(UsageError, match=r"append --format t5-dolly$"):
        choose(base)


def test_a_format_with_tokens_that_the_model_lacks_is_refused(base: Path) -> None:
    expected = r"'chatml' needs \d+ token ids, but the model has \d+; for a base model append --format plain$"
    with pytest.raises(UsageError, match=expected):
        choose(base, format="chatml")
    for config in ({"vocab_size": 9999}, {"text_config": {"vocab_size": 9999}}, {"vocab_size": None}, {}):
        write_json(base / "config.json", config)
        assert choose(base, format="chatml") == (["chatml"], [])


def test_a_format_of_the_other_kind_of_model_is_refused(base: Path) -> None:
    with pytest.raises(UsageError, match="'t5-dolly' cannot be used with a causal model"):
        choose(base, format="t5-dolly")
    write_json(base / "config.json", {"is_encoder_decoder": True})
    with pytest.raises(UsageError, match="'plain' cannot be used with an encoder-decoder; append --format t5-dolly"):
        choose(base, format="plain")


def test_an_unknown_format_is_an_error_even_if_no_model_needs_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown prompt format 'chatlm'; did you mean 'chatml'"):
        choose(tmp_path, format="chatlm")
    assert choose(tmp_path, format=next(iter(FORMATS)))[0] == [next(iter(FORMATS))]  # left to the loader


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", {"architectures": ["GPTNeoXForSequenceClassification"]}), ("tunesmith.json", {"kind": "reward"})],
)
def test_a_reward_model_writes_no_replies(base: Path, file: str, content: dict[str, object]) -> None:
    check_writes_replies(str(base))
    write_json(base / file, content)
    with pytest.raises(UsageError, match=r"this is a reward model: .*; score replies with it: tunesmith score"):
        check_writes_replies(str(base))
    (base / file).write_text("[")
    with pytest.raises(DataError):
        check_writes_replies(str(base))
