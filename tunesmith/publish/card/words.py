"""Words and numbers that several sections of a card have in common."""

from __future__ import annotations

from collections.abc import Mapping

from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPER_LANGUAGES

from tunesmith.publish.card.data_survey import DataSurvey
from tunesmith.publish.card.facts import CardFacts
from tunesmith.publish.card.markdown import code

LANGUAGES: Mapping[str, str] = {code: name.title() for code, name in WHISPER_LANGUAGES.items()}
"""Code of a language -> its English name."""
METHODS: Mapping[str, str] = {
    "sft": "supervised fine-tuning",
    "dpo": "direct preference optimization (DPO)",
    "reward": "a ranking loss on preferences",
    "ppo": "proximal policy optimization (PPO)",
}
"""Kind of objective -> what it is called in a sentence."""
LEAST_SHARE = 0.01
"""Share of the messages of which a language must have more, so that errors of the detection name none."""


def languages_of(survey: DataSurvey | None) -> list[str]:
    """The codes of the languages of the data, the most frequent first; empty where nothing is known."""
    if survey is None:
        return []
    found: dict[str, int] = {}
    for part in (survey.declared, survey.detected):
        for name, number in part.items():
            language = name.split("-")[0].split("_")[0]
            found[language] = found.get(language, 0) + number
    total = sum(found.values())
    return sorted((name for name, number in found.items() if number > total * LEAST_SHARE), key=lambda x: -found[x])


def count(number: int, word: str) -> str:
    """``1 record``, ``1,200 records``."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """0.1234 -> ``12.3 %``."""
    return f"{share:.1%}".replace("%", " %")


def source_link(facts: CardFacts, name: str) -> str:
    """A file that a statement is from: a link where the export has it."""
    is_linked = name in facts.files and all(each.isalnum() or each in "-_./" for each in name)
    return f"[{code(name)}]({name})" if is_linked else code(name)


def sources_line(facts: CardFacts, *names: str) -> str:
    """The line below a part that says which files it is from."""
    return f"Source: {', '.join(source_link(facts, name) for name in dict.fromkeys(names))}"
