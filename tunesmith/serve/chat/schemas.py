"""What the chat page sends, as pydantic models with limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith.serve.conversations.records import IDENTITY
from tunesmith.serve.openai.fields import RequestSchema

REPLIES = 8
"""The largest number of replies to one message that are asked for at once."""

LONGEST_TEXT = 500_000
"""Characters of a message; a body has a smaller limit in bytes anyway."""

NO_NUL = r"^[^\x00]*$"
"""The character U+0000 cannot be in a training file."""

Identity = Annotated[str, Field(pattern=IDENTITY)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT, pattern=NO_NUL)]
Number = Annotated[float, Field(ge=0, le=1e9)]


class SamplingChoiceSchema(RequestSchema):
    """Settings of sampling that differ from those of the model, by the names that they have there."""

    do_sample: bool | None = None
    temperature: Number | None = None
    top_k: Annotated[int, Field(ge=0, le=10**9)] | None = None
    top_p: Number | None = None
    typical_p: Number | None = None
    repetition_penalty: Number | None = None
    min_new_tokens: Annotated[int, Field(ge=0, le=10**6)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1, le=10**6)] | None = None


class AnswersSchema(RequestSchema):
    """Which replies are wanted: so many drafts of each model."""

    models: Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=4)]
    drafts: Annotated[int, Field(ge=1, le=4)] = 1
    sampling: SamplingChoiceSchema = SamplingChoiceSchema()
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class NewConversationSchema(RequestSchema):
    """A conversation that is to be created."""

    id: Identity
    system: Text = ""


class ChangeSchema(RequestSchema):
    """What is changed about a conversation."""

    title: Annotated[str, Field(max_length=200, pattern=NO_NUL)] | None = None
    system: Text | None = None
    feedback: bool | None = None


class SendSchema(RequestSchema):
    """A message of the user, and which replies are wanted. parent: what it answers; null begins a conversation."""

    id: Identity
    parent: Identity | None
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT, pattern=NO_NUL)]
    context: Text = ""
    answers: AnswersSchema | None = None


class RetrySchema(RequestSchema):
    """Further replies to a message."""

    answers: AnswersSchema


class EditSchema(RequestSchema):
    """The new text of a reply, which becomes a copy next to it."""

    id: Identity
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT, pattern=NO_NUL)]


class ContinueSchema(RequestSchema):
    """How a reply is continued."""

    sampling: SamplingChoiceSchema = SamplingChoiceSchema()


class VoteSchema(RequestSchema):
    """A vote on a reply."""

    vote: Annotated[int, Field(ge=-1, le=1)]


class CommentSchema(RequestSchema):
    """A remark on a reply."""

    text: Annotated[str, Field(max_length=10_000, pattern=NO_NUL)]


class ImportSchema(RequestSchema):
    """The content of a file with conversations."""

    name: Annotated[str, Field(max_length=200)] = "file"
    text: str


class NothingSchema(RequestSchema):
    """No fields."""
