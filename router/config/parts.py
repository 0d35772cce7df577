"""Settings of a request's parts: which of them a signal reads, and by which shapes they are told apart."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from triton_router.config.section import Name, Section

PartName = Literal[
    "words", "topic", "own", "material", "context", "history", "template", "tool", "system", "assistant", "all"
]
"""Parts of a request that a signal can read; see docs/parts.md."""

_PARTS = (
    "Parts of the request to read: the user's `words` (with earlier turns that the last one continues), their `topic` "
    "(without a last turn such as \"yes\"), the last turn's `own` words, `material` to work on, a client program's "
    "`context`, `history` and `template`, the turns of `tool`, `system` and `assistant`, or `all`."
)
PartNames = Annotated[tuple[PartName, ...], Field(min_length=1, description=_PARTS)]


class ShapeSettings(Section):
    """A mark that a client program puts around text: a tag or a label."""

    client: Name = Field(description="Name of the client; documentation only.")
    reading: Literal["words", "context", "history", "template"] = Field(
        description="Content of the marked text: the user's `words`, `context` that a program added, a chat's "
        "`history`, or instructions of a `template`."
    )
    tag: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.:-]{0,63}$")] | None = Field(
        None, description="Name of a tag: everything between `<name>` and `</name>`, or `[name]` and `[/name]`."
    )
    label: Annotated[str, StringConstraints(pattern=r"^[^\s:#](?:[^\n:]{0,47}[^\s:])?$")] | None = Field(
        None, description="A label: everything after a line that begins with it and a colon, up to the next label."
    )

    @model_validator(mode="after")
    def _tag_or_label(self) -> Self:
        if (self.tag is None) == (self.label is None):
            raise ValueError("a shape needs one of `tag` and `label`")
        return self


class PartsSettings(Section):
    """Separation of the user's words from text that programs add; docs/parts.md."""

    conversation: Literal["follow", "last_turn"] = Field(
        "follow",
        description="`follow`: a turn that means nothing by itself is judged with the user's earlier words; "
        "`last_turn`: each turn alone.",
    )
    shapes: tuple[ShapeSettings, ...] = Field(
        (), description="Marks of your client programs, in addition to the built-in ones; yours take precedence."
    )
