"""Properties of every prompt format and every conversation, whatever its contents are.

``check`` recomputes it without the renderer: from what a format promises to write, and with stock transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.text.brought_templates import STRIPS, TEMPLATES, TOKENS, bring
from tests.text.conversations import NAMES
from tests.text.small_tokenizers import byte_level, prefixed, write_tokenizer
from tunesmith.text.formats.registry import build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message, Tree
from tunesmith.verify.masks import find_mask_faults

KINDS = ("bytes", "prefixed")
SUBJECTS = (*NAMES, *(f"tokenizer/{shape}" for shape in TEMPLATES))
END = {"dolly": "### End", "chatml": "<|im_end|>"} | {
    f"tokenizer/{shape}": end
    for shape, end in {"marks": "<|im_end|>", "headers": "<|eot|>", "turns": "</turn>", "ended": "<|end|>"}.items()
}
AROUND = {"dolly": ("", "\n\n"), "vicuna": (" ", ""), "llama-2": (" ", " "), "tokenizer/brackets": (" ", " ")}
STRIPPED = ("tulu", "llama-2", *(f"tokenizer/{shape}" for shape in STRIPS))
READ_STRIPPED = ("dolly", *(name for name in STRIPPED if name != "tulu"))

MARKS = [
    "<|assistant|>", "<|user|>", "<|system|>", "<|prompter|>", "<|prefix_begin|>", "### End", "### Response:\n",
    "### Instruction:", "<|im_start|>", "<|im_end|>", "</s>", "<s>", "<unk>", "<0x0A>", "<|endoftext|>", "<|padding|>",
    "[INST]", " [/INST] ", "<<SYS>>\n", "\n<</SYS>>\n\n", "USER: ", "ASSISTANT:", "<|head|>", "<|/head|>", "<|eot|>",
    "<turn>", "</turn>", "<|end|>", "[Q]", " [/Q]", "{{ bos_token }}", "{% endfor %}", "\ue0000\ue001", "\ue0001\ue001",
]  # fmt: skip
SPACES = [
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    "\r",
    "\u00a0",
    "\u3000",
    "\u2005",
    "\u2028",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x85",
]
UNUSUAL = [
    "\ufeff", "\u200b", "\u200d", "\u202e", "e\u0301", "\u0301", "é", "\u1112\u1161\u11ab", "한", "ﬁ", "İ", "ß", "🤖",
    "👩‍👩‍👧",
    "\U000e0041", "\x00", "\x1b[2J", "\x7f", "\uffff", "\U0010ffff", "▁", "Ġ", "你好", "नमस्ते", "مرحبا", "\ufffd",
]  # fmt: skip
WORDS = ["the cat", " sat", "Hi", "x = 1", "...", "What is", "A", "1", "<", "|", ">", "#", "[", "]"]
pieces = st.one_of(
    st.sampled_from(MARKS),
    st.builds(lambda mark, cut: mark[:cut], st.sampled_from(MARKS), st.integers(1, 6)),
    st.builds(lambda mark, cut: mark[cut:], st.sampled_from(MARKS), st.integers(1, 6)),
    st.sampled_from(SPACES),
    st.sampled_from(UNUSUAL),
    st.sampled_from(WORDS),
    st.text(max_size=4),
)
contents = st.lists(pieces, max_size=6).map("".join)
harmless = st.lists(st.sampled_from([*WORDS, *SPACES[:6], "é", "你好", "🤖"]), max_size=6).map("".join)


@dataclass(frozen=True, slots=True)
class Subject:
    """One format with one tokenizer, and its export as stock transformers loads it."""

    name: str
    kind: str
    renderer: Renderer
    stock: Any

    @property
    def end(self) -> str:
        """The text of the token that ends a reply."""
        return END.get(self.name, "<|endoftext|>" if self.kind == "bytes" else "</s>")

    def read(self, text: str) -> str:
        """Return a text after encoding and decoding: one of the two tokenizers writes spaces as lower blocks."""
        return text.replace("▁", " ") if self.kind == "prefixed" else text

    def said(self, message: Message) -> str:
        """Return what the assistant must produce for ``message``, without the end token."""
        if self.name == "t5-dolly":
            return self.renderer.format.codec.encode(message.text)
        before, after = AROUND.get(self.name, ("", ""))
        return f"{before}{self.reply(message)}{after}"

    def reply(self, message: Message) -> str:
        if self.name == "t5-dolly":
            codec = self.renderer.format.codec
            return codec.decode(self.read(codec.encode(message.text)))
        text = (
            message.text
            if self.name in ("dolly", "alpaca") or not message.context
            else f"{message.text}\n\n{message.context}"
        )
        return text.strip() if self.name in STRIPPED else text

    def chat(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        """The conversation for stock transformers; the template of a tokenizer has no context passages."""
        if self.name.startswith("tokenizer/"):
            joined = [f"{m.text}\n\n{m.context}" if m.context else m.text for m in messages]
            return [{"role": m.role, "content": text} for m, text in zip(messages, joined, strict=True)]
        return [{"role": m.role, "content": m.text, **({"context": m.context} if m.context else {})} for m in messages]


def open_subject(name: str, kind: str, root: Path) -> Subject:
    """Make the tokenizer in ``root``, open it, export it and load the export with stock transformers."""
    base, directory = root / f"{kind}-base", root / f"{kind}-{name.replace('/', '-')}"
    if not base.exists():
        end = "<|endoftext|>"
        if kind == "bytes":
            write_tokenizer(base, {**byte_level(), "normalizer": None}, bos=end, eos=end, unk=end)
        else:
            write_tokenizer(base, prefixed(), bos="<s>", eos="</s>", unk="<unk>")
    format = build_format("plain")
    source = base
    if name.startswith("tokenizer/"):
        shape = name.partition("/")[2]
        source = bring(base, root / f"{kind}-{shape}-brought", TEMPLATES[shape], TOKENS[shape])
        format = build_format("tokenizer", template_options(str(source)))
    else:
        format = build_format(name)
    renderer = Renderer(format, Tokenizer.load(str(source), format.controls))
    renderer.tokenizer.save(directory, format.chat_template())
    return Subject(name, kind, renderer, AutoTokenizer.from_pretrained(directory))


@st.composite
def conversations(draw: st.DrawFn, name: str) -> tuple[list[Message], bool]:
    """(a conversation that ends with a reply, whether no content holds a mark)."""
    plain = draw(st.booleans())
    texts = harmless if plain else contents
    single = name in ("dolly", "alpaca", "t5-dolly")
    messages: list[Message] = []
    if not single and name != "tokenizer/turns" and draw(st.booleans()):
        messages.append(Message("system", draw(texts)))
    for _ in range(1 if single else draw(st.integers(1, 3))):
        # a text that begins with a letter has the same ids whether or not it is split from the text before it
        asked = Message("user", ("A" if plain else "") + draw(texts), context=draw(st.one_of(st.just(""), texts)))
        replied = Message("assistant", ("A" if plain else "") + draw(texts))
        messages += [asked, replied]
    if name == "dolly":  # which refuses empty texts
        messages = [Message(m.role, m.text or "x", context=m.context) for m in messages]
    if name == "t5-dolly":  # which refuses instructions without a word
        messages = [Message(m.role, m.text if m.text.strip() else "x", context=m.context) for m in messages]
    if name == "tokenizer/brackets":  # which strips an empty question together with the system message
        messages = [Message(m.role, m.text if m.text.strip() else "x", context=m.context) for m in messages]
    return messages, plain


def check(subject: Subject, messages: list[Message], harmless: bool) -> None:
    """Everything that must hold for one conversation that ends with a reply."""
    renderer, tokenizer = subject.renderer, subject.renderer.tokenizer
    tree = renderer.render(Tree.path(messages))
    ids = tree.ids.tolist()
    check_controls(subject, messages, ids)
    check_targets(subject, messages, tree)
    assert find_mask_faults(renderer, Tree.path(messages), tree) == []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        prompt = renderer.prompt(messages[:index])
        assert ids[: len(prompt)] == prompt, "the prompt is not how the training tokens begin"
        whole = renderer.render(Tree.path(messages[: index + 1])).ids.tolist()
        assert ids[: len(whole)] == whole, "a longer conversation begins otherwise"
        parsed = renderer.parse(whole[len(prompt) :])
        wanted = subject.read(subject.reply(message))
        wanted = wanted.strip() if subject.name in READ_STRIPPED else wanted
        assert parsed.stopped
        assert parsed.text == wanted, "a reply is read back otherwise"
    text = subject.stock.apply_chat_template(subject.chat(messages), tokenize=False)
    ours = tokenizer.decode(ids, skip_controls=False)
    assert subject.read(text)[: len(ours)] == ours, "the exported template writes another text"
    closing = text[len(ours) :].removeprefix("<|endoftext|>" if subject.kind == "bytes" else "</s>")
    assert not closing.strip(), "the exported template writes more"
    if harmless:
        found = subject.stock.apply_chat_template(subject.chat(messages), tokenize=True, return_dict=False)
        assert found[: len(ids)] == ids, "stock transformers makes other tokens of the export"
        asked = subject.chat(messages[:-1])
        prompt = subject.stock.apply_chat_template(asked, tokenize=True, return_dict=False, add_generation_prompt=True)
        assert prompt == renderer.prompt(messages[:-1]), "stock transformers makes another prompt of the export"


def check_controls(subject: Subject, messages: list[Message], ids: list[int]) -> None:
    """The control tokens are those of the same conversation about nothing."""
    renderer = subject.renderer
    nothing = [Message(message.role, "x") for message in messages]
    plain = renderer.render(Tree.path(nothing)).ids.tolist()
    found, expected = ([token for token in each if renderer.tokenizer.is_control(token)] for each in (ids, plain))
    assert found == expected, "a content has become a control token"


def check_targets(subject: Subject, messages: list[Message], tree: Any) -> None:
    """The targets are what the assistant must produce, its end token, and what the format predicts of the next turn."""
    renderer = subject.renderer
    found = []
    for start, end, source, message, threads in tree.spans.tolist():
        assert (source, threads) == (start - 1, 1)
        text = renderer.tokenizer.decode(
            tree.ids[start:end].tolist(), skip_controls=False, continuing=renderer.format.reply_continues_text
        )
        found.append((message, text))
    wanted = []
    for index, message in enumerate(messages):
        if message.role == "assistant":
            wanted.append((index, subject.read(subject.said(message)) + subject.end))
            if subject.name == "oasst" and index + 1 < len(messages):
                wanted.append((index, "<|prompter|>"))
    assert found == wanted, "other targets than what the assistant has to write"
