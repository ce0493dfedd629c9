"""What the model is asked in evaluation is what the data ask, and what it is compared with is what they answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from tests.text.small_tokenizers import byte_level, t5_like, write_tokenizer
from tunesmith.data.dataset.store import Store, open_store, open_writer, pack, read_index
from tunesmith.evaluate import generation
from tunesmith.evaluate.generation import (
    EvaluationPrompt,
    choose_prompts,
    generate_replies,
    prediction_records,
    reply_metrics,
)
from tunesmith.generate.engine import Engine
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.crop import CropSettings
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree

SINGLE = [Tree.path((Message("user", f"Question {n}?"), Message("assistant", f"Answer {n}."))) for n in range(20)]
CHAT = Tree.path(
    (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "And?"), Message("assistant", "Bye."))
)
BRANCHED = Tree(
    (Message("user", "Name one."), *(Message("assistant", text) for text in ("Red.", "Blue.", "Red."))),
    (-1, 0, 0, 0),
)


@pytest.fixture
def renderer(tmp_path: Path) -> Callable[..., Renderer]:
    """renderer("oasst", predict_next_role=True)"""
    end = "<|endoftext|>"
    write_tokenizer(tmp_path / "byte_level", byte_level(), bos=end, eos=end, unk=end)
    write_tokenizer(tmp_path / "t5_like", t5_like(), eos="</s>", unk="<unk>", pad="<pad>")

    def build(name: str, **options: bool) -> Renderer:
        format = build_format(name, options)
        kind = "t5_like" if name == "t5-dolly" else "byte_level"
        return Renderer(format, Tokenizer.load(str(tmp_path / kind), format.controls))

    return build


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[Renderer, Sequence[Tree]], Store]:
    def store(renderer: Renderer, trees: Sequence[Tree]) -> Store:
        keys = [hashlib.blake2b(tree.messages[0].text.encode(), digest_size=16).digest() for tree in trees]
        directory = tmp_path / f"store-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        with open_writer(directory) as writer:
            writer.append(pack(renderer.render_many(trees), [0] * len(trees), keys))  # type: ignore[arg-type]
            writer.finish("key", ["mine"], {})
        index = read_index(directory, "key")
        assert index is not None
        return open_store(directory, index)

    return store


@pytest.mark.parametrize(
    "name", ["dolly", "oasst", "tulu", "chatml", "llama-2", "zephyr", "alpaca", "vicuna", "plain", "t5-dolly"]
)
def test_the_prompt_is_the_generation_prompt_and_the_reference_the_reply(
    name: str, renderer: Callable[..., Renderer], stored: Callable[..., Store]
) -> None:
    made = renderer(name)
    found = choose_prompts(stored(made, SINGLE), ["mine"], made, 100, 0)
    assert len(found) == len(SINGLE)
    for prompt in found:
        tree = SINGLE[prompt.example]
        assert list(prompt.ids) == made.prompt(tree.messages[:1])
        assert prompt.source == "mine"
        written = made.parse(made.render(tree).ids[len(prompt.ids) :].tolist()).text
        assert prompt.references == (written,)
        assert name == "t5-dolly" or written == tree.messages[1].text  # its small vocabulary has not every letter


@pytest.mark.parametrize("predict_role", [False, True])
def test_every_turn_of_a_chat_is_asked_for(
    predict_role: bool, renderer: Callable[..., Renderer], stored: Callable[..., Store]
) -> None:
    made = renderer("oasst", predict_next_role=predict_role)
    found = choose_prompts(stored(made, [CHAT]), ["mine"], made, 10, 0)
    assert [prompt.references for prompt in found] == [("Hello.",), ("Bye.",)]
    assert [list(prompt.ids) for prompt in found] == [made.prompt(CHAT.messages[:n]) for n in (1, 3)]


def test_replies_to_one_prompt_are_references_of_one_question(
    renderer: Callable[..., Renderer], stored: Callable[..., Store]
) -> None:
    made = renderer("tulu")
    (found,) = choose_prompts(stored(made, [BRANCHED]), ["mine"], made, 10, 0)
    assert set(found.references) == {"Red.", "Blue."}
    assert len(found.references) == 2
    assert list(found.ids) == made.prompt(BRANCHED.messages[:1])


def test_the_choice_depends_on_the_seed_and_on_what_records_say_but_not_on_their_order(
    renderer: Callable[..., Renderer], stored: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = renderer("dolly")
    store, turned = stored(made, SINGLE), stored(made, SINGLE[::-1])

    def chosen(store: Store, seed: int) -> set[tuple[str, ...]]:
        return {prompt.references for prompt in choose_prompts(store, ["mine"], made, 6, seed)}

    assert len(chosen(store, 1)) == 6
    assert chosen(store, 1) == chosen(turned, 1)
    assert chosen(store, 1) != chosen(store, 2)
    monkeypatch.setattr(generation, "question_order", lambda seed, key: b"")
    assert chosen(store, 1) != chosen(turned, 1), "the order of the data would be seen"


def test_what_training_cuts_is_cut_here(renderer: Callable[..., Renderer], stored: Callable[..., Store]) -> None:
    made = renderer("oasst")
    limit = len(made.prompt(CHAT.messages[:3])) - 2
    rule = CropSettings("left", limit, made.opening)
    found = choose_prompts(stored(made, [CHAT]), ["mine"], made, 10, 0, rule)
    assert found
    assert all(len(prompt.ids) < limit for prompt in found)


def test_replies_are_the_greedy_ones_whatever_shares_a_batch(
    random_model: Callable[..., PreTrainedModel], renderer: Callable[..., Renderer], stored: Callable[..., Store]
) -> None:
    made = renderer("tulu")
    engine = Engine(random_model("llama", rows=576, context=160), made)
    prompts = choose_prompts(stored(made, SINGLE), ["mine"], made, 7, 0)
    expected = engine.complete(
        [SINGLE[prompt.example].messages[:1] for prompt in prompts],
        SamplingParameters(do_sample=False, max_new_tokens=12),
        seed=5,
    )
    for batch_size in (1, 3, 8):
        assert generate_replies(engine, prompts, 12, batch_size) == expected
    lines = list(prediction_records(prompts, expected, made))
    assert [line["reply"] for line in lines] == [reply.text for reply in expected]
    assert all("Question" in line["prompt"] for line in lines)
    found = reply_metrics(prompts, expected)
    assert found["prompts"] == 7
    assert found["stopped"] == sum(reply.stopped for reply in expected) / 7


def test_right_replies_have_full_marks() -> None:
    class Answer:
        def __init__(self, text: str) -> None:
            self.text, self.stopped = text, True

    prompts = [EvaluationPrompt(n, "mine", (1,), (f"This is the answer number {n}.",)) for n in range(3)]
    replies = [Answer(prompt.references[0]) for prompt in prompts]
    found = reply_metrics(prompts, replies)  # type: ignore[arg-type]
    assert found == pytest.approx({"bleu": 100.0, "rouge_l": 1.0, "stopped": 1.0, "prompts": 3})
