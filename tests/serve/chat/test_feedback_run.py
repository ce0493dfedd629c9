"""The whole way: people chat and choose, the feedback becomes a file, and a DPO run on it prefers what they chose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apps.sampled_models import write_causal
from tests.serve.chat.chats import Chat, run_chat
from tests.serve.served import LOG, end_models, new_parts
from tunesmith.compose.train import train_recipe
from tunesmith.generate.export_directory import open_engine
from tunesmith.generate.prompt_scores import score_text
from tunesmith.recipe.load import load
from tunesmith.serve.conversations.feedback_file import write_feedback
from tunesmith.serve.conversations.records import new_id
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModels, new_served_model
from tunesmith.text.tree import Message

QUESTIONS = ("Say red.", "Say blue.", "Say old.")
RECIPE = """\
name: preferred
model: {{path: {model}}}
text: {{format: chatml, max_length: 120}}
data:
  sources: [{{path: {feedback}, reader: oasst, options: {{keep: rankings, synthetic: true}}}}]
  cache: {root}/cache
  workers: 0
train: {{steps: 8, batch_size: 3, micro_batch_tokens: 400, learning_rate: 5e-3, save_every: 8}}
objective: {{kind: dpo}}
run: {{directory: {root}/run}}
"""


def log_probability(model: Path, question: str, reply: str) -> float:
    """The log-probability of a reply to a question."""
    engine, _ = open_engine(model)
    renderer = engine.renderer
    prompt = renderer.prompt([Message("user", question)])
    ids = renderer.tokenizer.encode(reply)
    scores = score_text(engine.model, [*prompt, *ids], 0, renderer.tokenizer.size)
    return sum(score.chosen for score in scores[-len(ids) :])


async def choose(chat: Chat, home: str, better: str, worse: str) -> tuple[str, str]:
    """Choose a draft."""
    await chat.message(better, "choose")
    return better, worse


async def vote(chat: Chat, home: str, better: str, worse: str) -> tuple[str, str]:
    """Vote one reply up and the other one down."""
    await chat.message(better, "vote", {"vote": 1})
    await chat.message(worse, "vote", {"vote": -1})
    return better, worse


async def edit(chat: Chat, home: str, better: str, worse: str) -> tuple[str, str]:
    """Write another text for a reply."""
    (made,) = (await chat.message(worse, "edit", {"id": new_id(), "text": "red, red and old"}))["messages"]
    return made["id"], worse


@pytest.mark.parametrize("judge", [choose, vote, edit])
def test_a_run_on_the_feedback_prefers_what_people_chose(
    tmp_path: Path, judge: Callable[[Chat, str, str, str], Awaitable[tuple[str, str]]]
) -> None:
    model = write_causal(tmp_path / "chatml", "chatml")
    engine, sampling = open_engine(model)
    served = new_served_model("chatml", engine, sampling, LoadLimits(), LOG.append)
    served.thread.start()
    models = ServedModels([served])

    async def chat_and_choose(chat: Chat) -> list[tuple[str, str, str]]:
        found = []
        for number, question in enumerate(QUESTIONS):
            home = await chat.new()
            _, first, second = await chat.send(home, question, drafts=2, seed=number)
            await chat.ended(home)
            better, worse = await judge(chat, home, second["id"], first["id"])
            await chat.ask("PATCH", f"/api/conversations/{home}", {"feedback": True})
            messages: dict[str, Any] = await chat.tree(home)
            found.append((question, messages[better]["text"], messages[worse]["text"]))
        return found

    try:
        judged = run_chat(new_parts(models), tmp_path / "chat", chat_and_choose)
    finally:
        end_models(models)
    report = write_feedback(tmp_path / "chat", tmp_path / "feedback.jsonl")
    assert (report.counts.comparisons, report.reader) == (3, "oasst")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=model, feedback=tmp_path / "feedback.jsonl", root=tmp_path))
    train_recipe(load([str(recipe)]))

    def margin(directory: Path) -> list[float]:
        return [log_probability(directory, q, good) - log_probability(directory, q, bad) for q, good, bad in judged]

    before, after = margin(model), margin(tmp_path / "run")
    assert all(late > early + 0.1 for early, late in zip(before, after, strict=True)), (before, after)
