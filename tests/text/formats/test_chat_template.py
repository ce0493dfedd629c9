"""The exported chat template: stock transformers renders the ids that the renderer renders."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer

from tests.text.conversations import HELLO, LONGER, MULTI_TURN, NAMES, WITH_SYSTEM
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree

Build = Callable[..., Renderer]
PASSAGE = (Message("user", "Shorten.", context="the passage"), Message("assistant", "x"))


def export(renderer: Renderer, directory: Path, family: str | None = None) -> Any:
    renderer.tokenizer.save(directory, renderer.format.chat_template())
    if family:
        (directory / "config.json").write_text(json.dumps({"model_type": family}))
    return AutoTokenizer.from_pretrained(directory)


def stock_ids(stock: Any, messages: Sequence[Message], *, generation: bool = False) -> list[int]:
    chat = [
        {"role": message.role, "content": message.text} | ({"context": message.context} if message.context else {})
        for message in messages
    ]
    ids = stock.apply_chat_template(chat, tokenize=True, return_dict=False, add_generation_prompt=generation)
    assert isinstance(ids, list)
    return ids


def conversations(renderer: Renderer) -> list[Sequence[Message]]:
    found: list[Sequence[Message]] = [HELLO, PASSAGE]
    return [*found, LONGER, WITH_SYSTEM, WITH_SYSTEM[:3]] if renderer.format.multi_turn else found


def assert_equal(stock: Any, renderer: Renderer, messages: Sequence[Message]) -> None:
    assert stock_ids(stock, messages) == renderer.render(Tree.path(messages)).ids.tolist()
    assert stock_ids(stock, messages[:-1], generation=True) == renderer.prompt(messages[:-1])


@pytest.mark.parametrize("kind", ["byte_level", "prefixed"])
@pytest.mark.parametrize("name", NAMES)
def test_the_template_gives_the_same_ids(name: str, kind: str, renderer: Build, tmp_path: Path) -> None:
    built = renderer(name, kind)
    stock = export(built, tmp_path)
    for messages in conversations(built):
        assert_equal(stock, built, messages)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tulu", {"strip": False, "bos": False}),
        ("tulu", {"context": "drop"}),
        ("oasst", {"context": "drop", "train_system": True}),
        ("chatml", {"bos": True, "context": "drop"}),
        ("plain", {"bos": False, "context": "drop"}),
        ("alpaca", {"bos": False}),
        ("vicuna", {"bos": False, "context": "drop"}),
        ("llama-2", {"context": "drop"}),
        ("zephyr", {"bos": True, "context": "drop"}),
        ("t5-dolly", {"context": "drop"}),
        ("t5-dolly", {"label": 'Context: it\'s "this"\n'}),
    ],
)
def test_options_reach_the_template(name: str, options: dict[str, Any], renderer: Build, tmp_path: Path) -> None:
    built = renderer(name, **options)
    stock = export(built, tmp_path)
    for messages in conversations(built):
        assert_equal(stock, built, messages)


@pytest.fixture(scope="module")
def exported(renderer: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Renderer]]:
    found = {}
    for name in NAMES:
        built = renderer(name)
        found[name] = (export(built, tmp_path_factory.mktemp(name)), built)
    return found


harmless = st.lists(st.sampled_from(["the cat", "où ", "Hi!", "x = 1\n", "  a", "你好", "\tb", "..."]), min_size=1).map(
    lambda parts: "A" + "".join(parts)
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), turns=st.integers(1, 3))
def test_any_harmless_conversation_gives_the_same_ids(
    data: st.DataObject, name: str, turns: int, exported: dict[str, tuple[Any, Renderer]]
) -> None:
    stock, built = exported[name]
    messages = []
    for _ in range(turns if built.format.multi_turn else 1):
        context = data.draw(st.sampled_from(["", "a passage"]))
        messages += [Message("user", data.draw(harmless), context), Message("assistant", data.draw(harmless))]
    assert_equal(stock, built, messages)


@pytest.mark.parametrize("name", NAMES)
def test_the_template_refuses_what_the_format_refuses(name: str, exported: dict[str, tuple[Any, Renderer]]) -> None:
    stock, _ = exported[name]
    refused = [[*HELLO, Message("system", "?")]]
    if name not in MULTI_TURN:
        refused += [list(LONGER), list(WITH_SYSTEM[:3])]
    if name != "tulu":
        refused += [[HELLO[0], HELLO[0]]]
    for messages in refused:
        with pytest.raises(TemplateError, match=f"prompt format {name}: a message of the"):
            stock_ids(stock, messages)


@pytest.mark.parametrize(("tokenizer", "family"), [("pythia", "gpt_neox"), ("llama", "llama")])
@pytest.mark.parametrize(
    "names", [("dolly", "tulu", "chatml", "plain", "vicuna", "llama-2", "zephyr"), ("oasst", "alpaca")]
)
def test_real_vocabularies_give_the_same_ids(
    names: tuple[str, ...], tokenizer: str, family: str, real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """One vocabulary with the control tokens of several formats, so stock transformers has to read it only once."""
    chosen = [build_format(name) for name in names]
    controls = [control for each in chosen for control in each.controls]
    loaded = Tokenizer.load(str(real_data(f"tokenizers/{tokenizer}")), controls)
    stock = export(Renderer(chosen[0], loaded), tmp_path, family)
    for each in chosen:
        built = Renderer(each, loaded)
        stock.chat_template = each.chat_template()
        for messages in conversations(built):
            assert_equal(stock, built, messages)
