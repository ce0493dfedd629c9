"""Small comparisons for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesmith.report.compared import ComparedModel, ComparedPrompt, ComparedReply, Comparison

Rewards = Mapping[tuple[int, str], Sequence[float]]
"""(model, configuration) -> the reward of its reply to each prompt."""


def compared(
    replies: Sequence[Mapping[tuple[int, str], Sequence[str]]],
    models: Sequence[str] = ("first", "second"),
    ended: Mapping[int, bool] | None = None,
    rewards: Rewards | None = None,
) -> Comparison:
    """A comparison of replies.

    replies: for every prompt, (model, configuration) -> texts.
    ended: model -> whether all of its replies ended; of other models it is not known.
    """
    configurations = list(dict.fromkeys(name for prompt in replies for _, name in prompt))
    prompts = tuple(
        ComparedPrompt(
            f"Prompt {number}?",
            f"{number:016x}",
            tuple(
                ComparedReply.of(
                    model,
                    name,
                    sample,
                    text,
                    (ended or {}).get(model),
                    (rewards or {}).get((model, name), [None] * len(replies))[number],
                )
                for (model, name), texts in prompt.items()
                for sample, text in enumerate(texts)
            ),
        )
        for number, prompt in enumerate(replies)
    )
    entries = tuple(
        ComparedModel(name, f"owner/{name}", f"{name}.json", "2023-04-03", f"{name:0>16}", {}) for name in models
    )
    return Comparison(entries, tuple(configurations), prompts, "judge" if rewards else "")
