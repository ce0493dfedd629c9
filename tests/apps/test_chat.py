"""The chat through pipes, in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apps.conftest import write_model
from tests.conftest import REPOSITORY
from tests.data.outcomes import read, tree_of
from tests.text.hostile import hostile_texts
from tunesmith.apps import chat
from tunesmith.apps.chat_loop import ChatFiles, ChatStreams
from tunesmith.apps.chat_settings import describe_sampling, parse_setting
from tunesmith.apps.commands import COMMANDS
from tunesmith.apps.conversation import Conversation
from tunesmith.apps.local_chat_model import LocalChatModel
from tunesmith.apps.terminal import Terminal
from tunesmith.errors import StorageError, TunesmithError, UsageError
from tunesmith.files import write_json
from tunesmith.generate.engine import Engine, ReplyChunk
from tunesmith.generate.export_directory import open_engine
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.tree import Message
from tunesmith.text.visible import visible

REPLY = "a plain reply"


def chat_with(directory: Path, *lines: str, **options: Any) -> tuple[str, str]:
    """What the chat writes to its output and to its error stream when it is given these lines."""
    output, errors = io.StringIO(), io.StringIO()
    streams = ChatStreams(io.StringIO("".join(f"{line}\n" for line in lines)), output, errors)
    chat.run(str(directory), streams=streams, **({"seed": 3} | options))
    return output.getvalue(), errors.getvalue()


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """replies(["a", "b"], KeyboardInterrupt): every reply consists of these pieces; the list has the arguments."""

    def install(pieces: list[str], ending: type[BaseException] | str = "stop") -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def stream(
            engine: Engine, messages: Any, sampling: SamplingParameters, seed: int, **options: Any
        ) -> Iterator[ReplyChunk]:
            asked.append(
                {
                    "messages": [(m.role, m.text) for m in messages],
                    "passages": [m.context for m in messages],
                    "sampling": sampling,
                    "seed": seed,
                }
                | options
            )
            for piece in pieces:
                yield ReplyChunk(piece, (1,))
            if not isinstance(ending, str):
                raise ending
            yield ReplyChunk("", (), ending)  # type: ignore[arg-type]

        monkeypatch.setattr(Engine, "stream", stream)
        return asked

    return install


def test_a_pipe_gets_replies_and_nothing_else(model_directory: Path) -> None:
    output, errors = chat_with(model_directory, "Hello", "", "And now?")
    assert output.count("\n") >= 2
    assert "prompt format plain" in errors
    assert "stopped at 8 tokens" in errors
    assert "stopped at" not in output
    assert (output, errors) == chat_with(model_directory, "Hello", "", "And now?"), "the same seed repeats a chat"
    assert output != chat_with(model_directory, "Hello", "", "And now?", seed=4)[0]


def test_every_line_of_a_pipe_is_one_message(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies([REPLY])
    output, _ = chat_with(model_directory, "one\\", "two", "//etc/hosts")
    assert output == f"{REPLY}\n" * 3
    assert [call["messages"][-1] for call in asked] == [("user", "one\\"), ("user", "two"), ("user", "/etc/hosts")]
    assert len(asked[-1]["messages"]) == 5
    assert [call["sample"] for call in asked] == [0, 1, 2]


def test_control_characters_of_a_reply_are_escaped(model_directory: Path) -> None:
    settings = {"temperature": 9.0, "max_new_tokens": 1500}
    output, errors = chat_with(model_directory, "Hello", sampling=settings)
    assert output == visible(output.rstrip("\n")) + "\n" * (len(output) - len(output.rstrip("\n")))
    assert "\\x1b" in output, "the nonsense should contain escapes, or this test shows nothing"
    assert "\x1b" not in output + errors


def test_control_characters_in_several_pieces_are_escaped_too(
    model_directory: Path, replies: Callable[..., Any]
) -> None:
    replies(["\x1b", "[31", "m\u202e", "\r", "\ud800"])
    assert chat_with(model_directory, "Hello")[0] == "\\x1b[31m\\u202e\\x0d\\ud800\n"


def test_nothing_that_the_program_writes_holds_a_raw_control() -> None:
    output, errors = io.StringIO(), io.StringIO()
    terminal = Terminal(io.StringIO(), output, errors)
    for text in hostile_texts():
        terminal.write(text)
        terminal.notice(text)
        terminal.error(text)
    written = output.getvalue() + errors.getvalue()
    assert written == visible(written)


def test_a_character_outside_of_the_output_encoding_is_escaped(
    model_directory: Path, replies: Callable[..., Any]
) -> None:
    replies(["é", "你"])
    bytes_ = io.BytesIO()
    output = io.TextIOWrapper(bytes_, encoding="ascii")
    chat.run(str(model_directory), streams=ChatStreams(io.StringIO("Hello\n"), output, io.StringIO()))
    assert bytes_.getvalue() == b"\\xe9\\u4f60\n"


def test_input_that_is_not_text_does_not_end_the_chat(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies([REPLY])
    source = io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8")
    chat.run(str(model_directory), streams=ChatStreams(source, io.StringIO(), io.StringIO()))
    assert asked[0]["messages"] == [("user", "caf\ufffd")]


def test_an_interrupt_in_a_terminal_ends_the_reply_and_keeps_what_was_shown(
    model_directory: Path, replies: Callable[..., Any]
) -> None:
    asked = replies(["half a re"], KeyboardInterrupt)
    output, errors = io.StringIO(), io.StringIO()
    terminal = Terminal(io.StringIO(), output, errors)
    terminal.interactive = True
    engine, sampling = open_engine(model_directory)
    conversation = Conversation(LocalChatModel(engine, sampling, 3), terminal, None)
    conversation.send("Hello")
    conversation.send("Go on")
    assert output.getvalue() == "half a re\n\n" * 2
    assert errors.getvalue().count("(stopped)") == 2
    assert asked[1]["messages"] == [("user", "Hello"), ("assistant", "half a re"), ("user", "Go on")]


def test_an_interrupt_ends_a_chat_through_pipes(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies(["half a re"], KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        chat_with(model_directory, "Hello", "Go on")
    assert len(asked) == 1


def test_a_message_without_a_reply_is_not_kept(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies([])
    _, errors = chat_with(model_directory, "Hello", "Hello again")
    assert errors.count("the reply is empty") == 2
    assert asked[1]["messages"] == [("user", "Hello again")]


def test_retry_replaces_the_reply_by_another_sample(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies([REPLY])
    _, errors = chat_with(model_directory, "Hello", "/retry", "/set do_sample=no", "/retry", "Next")
    assert [call["messages"] for call in asked[:3]] == [[("user", "Hello")]] * 3
    assert [call["sample"] for call in asked] == [0, 1, 2, 3]
    assert len(asked[3]["messages"]) == 3
    assert errors.count("the reply will be the same") == 1


def test_reset_forgets_all_but_the_system_message(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies([REPLY])
    chat_with(model_directory, "Hello", "/reset", "Hi", "/system off", "Hm", system="Be brief.")
    brief = ("system", "Be brief.")
    assert [call["messages"] for call in asked] == [
        [brief, ("user", "Hello")],
        [brief, ("user", "Hi")],
        [("user", "Hi"), ("assistant", REPLY), ("user", "Hm")],
    ]


def test_settings_change_and_are_shown(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies([REPLY])
    lines = ("/set temperature=0.5 top_k=9", "Hello", "/set")
    _, errors = chat_with(model_directory, *lines, sampling={"top_p": 0.9, "top_k": None})
    assert asked[0]["sampling"] == SamplingParameters(temperature=0.5, top_k=9, top_p=0.9, max_new_tokens=8)
    assert errors.count("(temperature=0.5 top_k=9 top_p=0.9 max_new_tokens=8)") == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temperature=0", "temperature=0.0 must be"),
        ("/set temprature=1", "did you mean 'temperature'"),
        ("/set top_k=many", "top_k must be a whole number, not 'many'"),
        ("/set do_sample=perhaps", "do_sample must be true or false, not 'perhaps'"),
        ("/set temperature", "/set temperature=0.7"),
        ("/retry", "no reply to replace"),
        ("/rest", "did you mean /reset"),
        ("/zzz", "/help lists the commands"),
        ("/drafts", "the number of drafts is missing; write 2 to 8, as in `/drafts 3`"),
        ("/drafts 9", "'9' is not a number of drafts"),
        ("/drafts 2", "there is no reply to replace"),
        ("/tokens", "the model has read nothing yet"),
        ("/save", "name of the file is missing"),
        ("/save x.json", "the conversation has no messages yet"),
        ("/\x1b[2J", "\\x1b[2J"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(model_directory: Path, line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        chat_with(model_directory, line)
    assert message in visible(str(caught.value))


def test_an_impossible_override_is_refused(model_directory: Path) -> None:
    with pytest.raises(UsageError, match="top_p=2"):
        chat_with(model_directory, sampling={"top_p": 2.0})


def test_a_single_turn_format_begins_a_new_conversation_and_reports_it_once(
    single_turn_directory: Path, replies: Callable[..., Any]
) -> None:
    asked = replies([REPLY])
    _, errors = chat_with(single_turn_directory, "one", "two", "three")
    assert [call["messages"] for call in asked] == [[("user", "one")], [("user", "two")], [("user", "three")]]
    assert errors.count("every message begins a new conversation") == 1


def test_a_system_message_that_the_format_does_not_support_is_refused(single_turn_directory: Path) -> None:
    for options, lines in (({"system": "Be brief."}, []), ({}, ["/system Be brief."])):
        with pytest.raises(UsageError, match="no place"):
            chat_with(single_turn_directory, *lines, **options)


def test_a_passage_is_part_of_every_message_in_a_format_for_single_turns(
    single_turn_directory: Path, replies: Callable[..., Any]
) -> None:
    asked = replies([REPLY])
    lines = ("/context Ada has a cat.", "Who?", "What?", "/reset", "When?", "/context off", "Where?", "/context")
    _, errors = chat_with(single_turn_directory, *lines)
    assert [call["passages"] for call in asked] == [["Ada has a cat."]] * 3 + [[""]]
    assert "passage, sent with every message, after the line '### Input:': Ada has a cat." in errors
    assert "a new conversation with the same passage" in errors
    assert errors.count("(no passage; `/context TEXT` sets one") == 2


def test_a_passage_is_sent_once_in_a_conversation(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies([REPLY])
    lines = ("Hi", "/context\tone", "Who?", "/context", "What?", "/context two", "When?", "/reset", "Where?")
    _, errors = chat_with(model_directory, *lines)
    assert "passage, sent once, with your next message, after an empty line: one" in errors
    assert "passage, sent, after an empty line: one" in errors
    assert [call["passages"] for call in asked] == [
        [""],
        ["", "", "one"],
        ["", "", "one", "", ""],
        ["", "", "one", "", "", "", "two"],
        ["two"],
    ]


def test_a_passage_without_a_place_in_the_format_is_refused(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model", "plain")
    write_json(directory / "tunesmith.json", {"format": "plain", "options": {"context": "drop"}})
    with pytest.raises(UsageError, match="no place for a passage; write it into the message"):
        chat_with(directory, "/context", "/context Ada has a cat.")


def test_a_saved_passage_is_read_back(single_turn_directory: Path, replies: Callable[..., Any], tmp_path: Path) -> None:
    replies([REPLY])
    path = tmp_path / "chat.jsonl"
    chat_with(single_turn_directory, "/context Ada has a cat.", "Who?", f"/save {path}")
    tree = tree_of(read("messages", json.loads(path.read_text(encoding="utf-8"))))
    assert tree.messages == (Message("user", "Who?", context="Ada has a cat."), Message("assistant", REPLY))


def test_a_saved_conversation_is_read_back_as_chat_data(
    model_directory: Path, replies: Callable[..., Any], tmp_path: Path
) -> None:
    replies(['"quoted"\n', "你好\x1b"])
    path = tmp_path / "my chat.jsonl"
    _, errors = chat_with(model_directory, "Hello", f"/save {path}", "More", f"/save {path}", system="Be brief.")
    assert f"saved 5 messages to {path}" in errors
    (line,) = path.read_text(encoding="utf-8").splitlines()
    said = json.loads(line)["messages"]
    assert [message["role"] for message in said] == ["system", "user", "assistant", "user", "assistant"]
    assert said[2]["content"] == '"quoted"\n你好\x1b', "the file holds what was said, not what was shown"


def test_a_file_of_another_chat_is_not_replaced(
    model_directory: Path, replies: Callable[..., Any], tmp_path: Path
) -> None:
    replies([REPLY])
    path = tmp_path / "chat.json"
    path.write_text("precious")
    for options, lines in (({"files": ChatFiles(path)}, ["Hello"]), ({}, ["Hello", f"/save {path}"])):
        with pytest.raises(UsageError, match="already exists"):
            chat_with(model_directory, *lines, **options)
    assert path.read_text() == "precious"
    with pytest.raises(StorageError):
        chat_with(model_directory, "Hello", f"/save {path}/below.json")


def test_the_save_option_holds_the_conversation_after_every_reply(
    model_directory: Path, replies: Callable[..., Any], tmp_path: Path
) -> None:
    replies([REPLY])
    path = tmp_path / "chat.jsonl"
    with pytest.raises(TunesmithError):
        chat_with(model_directory, "Hello", "/bogus", files=ChatFiles(path))
    assert len(json.loads(path.read_text())["messages"]) == 2


def test_messages_that_are_left_out_of_the_prompt_are_reported(
    model_directory: Path, replies: Callable[..., Any]
) -> None:
    replies([REPLY])
    _, errors = chat_with(model_directory, *["mat " * 1500] * 3, "short", "/reset", "short")
    assert errors.count("left out of the prompt") >= 1
    with pytest.raises(TunesmithError, match="no tokens for a reply"):
        chat_with(model_directory, "mat " * 5000)


def test_help_names_every_command(model_directory: Path) -> None:
    _, errors = chat_with(model_directory, "/help")
    assert all(f"/{name}" in errors for name in COMMANDS)
    assert max(map(len, errors.splitlines())) <= 80
    documented = (REPOSITORY / "docs" / "chat.md").read_text(encoding="utf-8")
    assert all(f"`/{name}" in documented for name in COMMANDS)


def test_quit_ends_the_chat_at_once(model_directory: Path, replies: Callable[..., Any]) -> None:
    asked = replies([REPLY])
    chat_with(model_directory, "/quit", "Hello")
    assert asked == []


def test_settings_are_described_without_those_that_have_no_effect() -> None:
    assert (
        describe_sampling(SamplingParameters(do_sample=False, temperature=0.3, top_p=0.5))
        == "do_sample=false max_new_tokens=256"
    )
    full = SamplingParameters(
        temperature=0.7, top_k=50, top_p=0.95, repetition_penalty=1.2, min_new_tokens=4, max_new_tokens=400
    )
    shown = describe_sampling(full)
    assert all(
        f"{name}=" in shown for name in ("temperature", "top_k", "top_p", "repetition_penalty", "min_new_tokens")
    )
    assert parse_setting("do_sample", "On") is True
