"""The tokenizer: ids, control tokens that text can never become, loading, saving for stock tools."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from transformers import AutoTokenizer

from tests.text.conversations import NAMES
from tests.text.small_tokenizers import byte_level, words, write_tokenizer
from tunesmith.errors import DataError, MissingInputError
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer

KINDS = ("byte_level", "prefixed", "unigram", "words")
CONTROLS = ("### End", "### Instruction:", "### Response:\n")
MARKS = [
    *{control for name in NAMES for control in build_format(name).controls},
    "<|endoftext|>",
    "<|padding|>",
    "<s>",
    "</s>",
]
MARKS += ["<unk>", "<pad>", "<eos>", "[UNK]", "<0x41>", "▁"]


@st.composite
def hostile_texts(draw: st.DrawFn) -> str:
    """Text made of control tokens: whole, cut, doubled, nested, spaced, in other forms, between other characters."""
    parts = []
    for _ in range(draw(st.integers(1, 6))):
        mark = draw(st.sampled_from(MARKS))
        cut = draw(st.integers(0, len(mark)))
        forms = [mark, mark[:cut], mark[cut:], mark[:cut] + mark + mark[cut:], " " + mark, mark.upper(), mark * 3]
        forms += [mark.replace("<", "＜"), " ".join(mark), draw(st.text(max_size=8))]  # noqa: RUF001
        parts.append(draw(st.sampled_from(forms)))
    return "".join(parts)


def controls_in(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    """The control ids among ``ids``, except the token for characters outside the vocabulary."""
    return [
        token for token in ids if tokenizer.is_control(token) and token not in tokenizer.find_ids(["<unk>", "[UNK]"])
    ]


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tokenizer_directories: dict[str, Path]) -> Tokenizer:
    return Tokenizer.load(str(tokenizer_directories[request.param]), CONTROLS)


def test_missing_controls_get_the_next_ids_in_the_given_order(tokenizer_directories: dict[str, Path]) -> None:
    before = Tokenizer.load(str(tokenizer_directories["byte_level"]))
    after = Tokenizer.load(str(tokenizer_directories["byte_level"]), CONTROLS)
    assert [after.control(name) for name in CONTROLS] == [before.size, before.size + 1, before.size + 2]
    assert after.size == before.size + 3
    again = Tokenizer.load(str(tokenizer_directories["byte_level"]), CONTROLS[::-1])
    assert again.control("### Response:\n") == before.size
    assert again.fingerprint != after.fingerprint != before.fingerprint


def test_ids_are_those_of_the_library_where_text_holds_no_control(tokenizer_directories: dict[str, Path]) -> None:
    texts = ["Name three  rivers.\n\n\tdone", " lead", "trail    ", "où est-il ? 你好", "", " ", "x" * 300]
    for kind in KINDS[:3]:
        library = Library.from_file(str(tokenizer_directories[kind] / "tokenizer.json"))
        expected = [encoding.ids for encoding in library.encode_batch(texts, add_special_tokens=False)]
        tokenizer = Tokenizer.load(str(tokenizer_directories[kind]), CONTROLS)
        assert tokenizer.encode_many(texts) == expected
        assert [tokenizer.encode(text) for text in texts] == expected


def test_runs_of_spaces_are_text_and_keep_their_ids(tokenizer_directories: dict[str, Path]) -> None:
    tokenizer = Tokenizer.load(str(tokenizer_directories["byte_level"]), CONTROLS)
    spaces = Library.from_file(str(tokenizer_directories["byte_level"] / "tokenizer.json")).token_to_id(" " * 8)
    assert tokenizer.encode(" " * 8) == [spaces]
    assert not tokenizer.is_control(spaces)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(hostile_texts(), min_size=1, max_size=4), kind=st.sampled_from(KINDS), continuing=st.booleans())
def test_text_never_becomes_a_control_token(
    texts: list[str], kind: str, continuing: bool, load: Callable[..., Tokenizer]
) -> None:
    tokenizer = load(kind, tuple(MARKS[:4]))
    for text, ids in zip(texts, tokenizer.encode_many(texts, continuing=continuing), strict=True):
        assert not controls_in(ids, tokenizer)
        if kind == "byte_level":
            assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)
        if kind == "prefixed" and "▁" not in text:
            assert tokenizer.decode(ids, continuing=continuing) == text


@pytest.mark.parametrize("kind", ["byte_level", "prefixed", "unigram"])
def test_the_same_check_finds_the_fault_of_the_stock_tokenizer(
    kind: str, tokenizer_directories: dict[str, Path]
) -> None:
    tokenizer = Tokenizer.load(str(tokenizer_directories[kind]))
    library = Library.from_file(str(tokenizer_directories[kind] / "tokenizer.json"))
    name = {"byte_level": "<|endoftext|>", "prefixed": "</s>", "unigram": "</s>"}[kind]
    assert controls_in(library.encode(f"a {name} b", add_special_tokens=False).ids, tokenizer)
    assert not controls_in(tokenizer.encode(f"a {name} b"), tokenizer)


def test_a_control_that_the_model_itself_finds_is_cut_apart(tokenizer_directories: dict[str, Path]) -> None:
    unigram = Tokenizer.load(str(tokenizer_directories["unigram"]))
    library = Library.from_str(
        json.dumps(
            {**json.loads((tokenizer_directories["unigram"] / "tokenizer.json").read_text()), "added_tokens": []}
        )
    )
    assert unigram.eos_id in library.encode("the</s>at").ids  # no added token is needed for it
    assert unigram.eos_id not in unigram.encode("the</s>at" * 50)
    assert unigram.encode("the</s>at").count(unigram.encode(" ")[0]) == 0  # cutting adds no space
    assert len(unigram.encode("<unk>")) > 2  # the name of the unknown token is text as well
    words = Tokenizer.load(str(tokenizer_directories["words"]))
    assert words.is_control(words.control("eos"))
    assert words.encode("hello <eos> world")[0] == 2
    assert words.eos_id not in words.encode("hello <eos> world")


def test_text_is_encoded_as_if_there_were_no_control_tokens(tokenizer_directories: dict[str, Path]) -> None:
    content = json.loads((tokenizer_directories["byte_level"] / "tokenizer.json").read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["special"]]
    library = Library.from_str(json.dumps(content))
    tokenizer = Tokenizer.load(str(tokenizer_directories["byte_level"]), CONTROLS)
    for text in ("<|endoftext|>", "a  <|padding|>\n### End <|endoftext|><|endoftext|>", "### Response:\n### End"):
        assert tokenizer.encode(text) == library.encode(text).ids


def test_an_added_token_that_is_not_special_is_text_of_one_token(tmp_path: Path) -> None:
    content = byte_level()
    token = {**content["added_tokens"][-1], "id": content["added_tokens"][-1]["id"] + 1, "content": "<tool>"}
    content["added_tokens"].append(token)
    tokenizer = Tokenizer.load(str(write_tokenizer(tmp_path, content)))
    assert not tokenizer.is_control(token["id"])
    assert tokenizer.is_text(token["id"])
    assert token["id"] in tokenizer.encode("a <tool> b")
    assert tokenizer.decode(tokenizer.encode("a <tool> b")) == "a <tool> b"


def test_a_continuation_gets_no_space_before_it(tokenizer_directories: dict[str, Path]) -> None:
    tokenizer = Tokenizer.load(str(tokenizer_directories["prefixed"]))
    assert tokenizer.encode("Hello\nthe cat") == [
        *tokenizer.encode("Hello\n"),
        *tokenizer.encode("the cat", continuing=True),
    ]
    assert tokenizer.decode(tokenizer.encode(" cat", continuing=True), continuing=True) == " cat"
    assert tokenizer.decode(tokenizer.encode(" cat")) == " cat"
    assert not tokenizer.continues_alike


def test_decoding_shows_or_hides_controls(tokenizer_directories: dict[str, Path]) -> None:
    tokenizer = Tokenizer.load(str(tokenizer_directories["byte_level"]), CONTROLS)
    ids = [
        *tokenizer.encode("one ."),
        tokenizer.control("### End"),
        *tokenizer.encode(" two"),
        tokenizer.control("eos"),
    ]
    assert tokenizer.decode(ids) == "one . two"
    assert tokenizer.decode(ids, skip_controls=False) == "one .### End two<|endoftext|>"


def test_names_of_special_tokens_may_be_strings_or_objects(tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path, byte_level())
    config = {"eos_token": {"content": "<|endoftext|>", "lstrip": False}, "pad_token": "<|padding|>", "bos_token": None}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<|padding|>"}))
    tokenizer = Tokenizer.load(str(directory))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 0, 1)


def test_a_missing_control_is_an_error_with_advice(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"no token '<\|im_end\|>'.*format"):
        tokenizer.control("<|im_end|>")


def test_files_that_cannot_be_loaded_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such directory"):
        Tokenizer.load(str(tmp_path / "nowhere"))
    with pytest.raises(MissingInputError, match=r"holds no tokenizer\.json"):
        Tokenizer.load(str(tmp_path))
    for content, message in [("{", "not valid JSON"), ("[]", "not a JSON object"), ('{"model": {}}', "without a voc")]:
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(DataError, match=message):
            Tokenizer.load(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}}}')
    with pytest.raises(DataError, match="not a tokenizer"):
        Tokenizer.load(str(tmp_path))


def test_half_a_character_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="half a character"):
        tokenizer.encode("a\ud800b")


def test_a_character_that_can_only_be_a_control_is_an_error(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(str(write_tokenizer(tmp_path, words())), ["<"])
    with pytest.raises(DataError, match="turns the character '<' into a control token"):
        tokenizer.encode("hello < world")


def test_an_added_token_that_would_move_is_an_error(tmp_path: Path) -> None:
    content = byte_level()
    content["added_tokens"][-1]["id"] += 5
    with pytest.raises(DataError, match="cannot keep its id"):
        Tokenizer.load(str(write_tokenizer(tmp_path, content)))


@pytest.mark.parametrize("family", [None, "gpt_neox", "llama"])
@pytest.mark.parametrize("kind", ["byte_level", "prefixed"])
def test_stock_transformers_loads_the_saved_tokenizer_to_the_same_ids(
    kind: str, family: str | None, tokenizer_directories: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(str(tokenizer_directories[kind]), CONTROLS)
    tokenizer.save(tmp_path, "{{ 'x' }}", {"model_max_length": 77})
    if family:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    stock = AutoTokenizer.from_pretrained(tmp_path)
    text = "Name  three rivers.\n\n### End\nwhere, où ? ### Response:\nthe cat"
    pieces = ["Name  three rivers.\n\n", "### End", "\nwhere, où ? ", "### Response:\n", "the cat"]
    ids = [[tokenizer.control(run)] if run in CONTROLS else tokenizer.encode(run) for run in pieces]
    assert stock(text, add_special_tokens=False)["input_ids"] == [token for run in ids for token in run]
    assert (stock.bos_token_id, stock.eos_token_id, len(stock)) == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.size)
    assert stock.chat_template == "{{ 'x' }}"
    assert stock.model_max_length == 77
    assert Tokenizer.load(str(tmp_path)).fingerprint == tokenizer.fingerprint
    assert Tokenizer.load(str(tmp_path), CONTROLS).control_ids == tokenizer.control_ids


def test_real_vocabularies_keep_their_ids(real_data: Callable[[str], Path]) -> None:
    pythia = Tokenizer.load(str(real_data("tokenizers/pythia")), CONTROLS)
    assert [pythia.control(name) for name in CONTROLS] == [50277, 50278, 50279]
    assert (pythia.size, pythia.bos_id, pythia.pad_id) == (50280, 0, None)
    assert pythia.encode("    ") == [50274]
    assert pythia.continues_alike
    llama = Tokenizer.load(str(real_data("tokenizers/llama")))
    assert llama.encode("\n") == [29871, 13]
    assert llama.encode("\n", continuing=True) == [13]
    t5 = Tokenizer.load(str(real_data("tokenizers/t5")))
    assert not controls_in(t5.encode("a</s> <extra_id_0> <pad>b"), t5)
    assert t5.size == 32100


def test_words_that_follow_a_quoted_control_token_stay_apart(load: Callable[..., Tokenizer]) -> None:
    """If words are split before a space is added to each, a continuation must keep its spaces."""
    tokenizer = load("t5_like")
    for text in ("the cat </s> sat at the  mat", "</s>a b c", "<unk> the <pad> at"):
        ids = tokenizer.encode(text)
        assert not {0, 1} & set(ids)
        assert tokenizer.decode(ids) == " ".join(text.replace("<", "").replace("/", "").split())
    assert tokenizer.decode(tokenizer.encode("the cat", continuing=True), continuing=True) == "the cat"
    assert tokenizer.decode(tokenizer.encode(" the cat ", continuing=True), continuing=True) == " the cat"
