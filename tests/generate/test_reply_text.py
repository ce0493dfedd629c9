"""A streamed reply shows the text of the whole reply, without its stop text, whatever the tokens are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.generate.reply_text import PlainReader, ReplyText
from tunesmith.generate.stop_texts import ReplyReader, cut_at_stop
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    end = "<|endoftext|>"
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory, byte_level(), bos=end, eos=end, unk=end)
    return Tokenizer.load(str(directory))


TEXT = st.text(st.sampled_from(list("ab \n\u00e9\U0001f600")), max_size=12)
STOPS = st.lists(st.text(st.sampled_from(list("ab \n\u00e9")), min_size=1, max_size=4), max_size=3)


@settings(max_examples=200, deadline=None)
@given(text=TEXT, stop=STOPS, raw=st.booleans(), more=st.lists(st.integers(0, 300), max_size=3))
def test_the_pieces_are_the_text_up_to_the_stop_text(
    tokenizer: Tokenizer, text: str, stop: list[str], raw: bool, more: list[int]
) -> None:
    reader: ReplyReader = PlainReader(tokenizer) if raw else Renderer(build_format("tulu"), tokenizer)
    ids = [*tokenizer.encode(text), *(each % tokenizer.size for each in more)]
    ids = [each for each in ids if not tokenizer.is_control(each)]
    stream, pieces = ReplyText(reader, stop), list[str]()
    for number, token in enumerate(ids, 1):
        pieces.append(stream.add(token))
        if cut_at_stop(reader.parse(ids[:number]).text, stop)[1]:
            assert stream.stopped
        if stream.stopped:
            break
    else:
        pieces.append(stream.finish())
    expected = cut_at_stop(reader.parse(stream.ids).text, stop)[0]
    assert "".join(pieces) == stream.shown == expected
