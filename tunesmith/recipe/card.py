"""The keys of a recipe for its model card: what its author says, which no file of the run contains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tunesmith.recipe.licenses import HUB_LICENSES
from tunesmith.recipe.section import Conflict, Section, check_conflicts

Text = Annotated[str, Field(min_length=1)]
GateField = Literal["checkbox", "text", "country", "date_picker"] | Annotated[tuple[Text, ...], Field(strict=False)]


class GateConfig(Section):
    """What a reader must accept or answer before the hub hands out the model. It is switched on at the hub as well."""

    heading: Text | None = Field(
        default=None, description="The heading above the questions; null uses that of the hub."
    )
    prompt: Text | None = Field(default=None, description="The text above the questions; null uses that of the hub.")
    button: Text | None = Field(default=None, description="The text of the button; null uses that of the hub.")
    fields: Mapping[Text, GateField] = Field(
        default_factory=dict,
        description="What is asked: the sentence, with checkbox, text, country, date_picker, or a list of choices.",
    )


class CardConfig(Section):
    """What the author of a model says in its model card; everything else is taken from the run.

    Texts are Markdown. HTML in them is shown as text.
    """

    title: Text | None = Field(default=None, description="The heading of the card; null uses the name of the recipe.")
    summary: Text | None = Field(
        default=None, description="Sentences that follow the generated ones at the beginning of the card."
    )
    developer: Text | None = Field(default=None, description="Who developed the model.")
    contact: Text | None = Field(default=None, description="How its developers can be reached.")
    links: Mapping[Text, Text] = Field(
        default_factory=dict, description="Further places, by what they are: Repository, Paper, Demo."
    )
    license: str | None = Field(
        default=None,
        description="The license of the model, by its name on the Hugging Face hub, such as apache-2.0; null writes "
        "none.",
    )
    license_name: Text | None = Field(default=None, description="For license other: the name of the license.")
    license_link: Text | None = Field(default=None, description="For license other: where its text is.")
    license_reason: Text | None = Field(
        default=None,
        description="Why the model has a license that does not repeat the conditions of that of its data; without a "
        "reason such a license is not written.",
    )
    licenses: Mapping[Text, Text] = Field(
        default_factory=dict,
        description="The licenses of data and base model, by their path or hub name in the recipe.",
    )
    tags: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=(), description="Tags on the hub, in addition to the method and the format."
    )
    prompts: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        default=("Write a short letter to a friend about the first day of spring.",),
        min_length=1,
        description="Questions of a user, which the card shows in the prompt format of the model and the hub offers in "
        "its widget.",
    )
    gate: GateConfig | None = Field(
        default=None, description="What a reader must accept or answer before the download; null asks nothing."
    )
    intended_use: Text | None = Field(default=None, description="What the model is for, and what it is not for.")
    limitations: Text | None = Field(
        default=None, description="Limitations, risks and bias that are known, in addition to what was measured."
    )
    sections: Mapping[Text, Text] = Field(
        default_factory=dict, description="Further sections at the end of the card: heading, with the text."
    )
    citation: Text | None = Field(default=None, description="How the model is cited, as BibTeX.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_license_conflicts(self))
        return self


def _find_license_conflicts(card: CardConfig) -> Iterator[Conflict]:
    names = {"license": card.license, **{f"licenses.{path}": name for path, name in card.licenses.items()}}
    for key, name in names.items():
        if name is not None and name not in HUB_LICENSES:
            yield Conflict(
                key, f"{name!r} is no license of the Hugging Face hub; use other, with license_name and license_link"
            )
    if (card.license == "other") != (card.license_name is not None):
        yield Conflict("license_name", "license_name is given if and only if license is other")
