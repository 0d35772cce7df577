"""The base of every part of the configuration: a closed, frozen section, and the types of its values."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Milliseconds = Annotated[float, Field(gt=0, le=600_000)]
Probability = Annotated[float, Field(ge=0, le=1)]
Similarity = Annotated[float, Field(ge=-1, le=1)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=128)]
LowerHeaderName = Annotated[HeaderName, StringConstraints(to_lower=True)]

HOST_AND_PORT = r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}"

CacheScope = Literal["user", "tenant", "global"]


def _tokens(value: Any) -> Any:
    """`8K` is 8,000 tokens and `1M` a million, in either case; nothing at all means no bound."""
    if not isinstance(value, str):
        return value
    text = value.strip().upper()
    if not text:
        return None
    unit = {"K": 1_000, "M": 1_000_000}.get(text[-1], 1)
    try:
        return round(float(text if unit == 1 else text[:-1]) * unit)
    except (ValueError, OverflowError):
        raise ValueError(f"`{value}` is not a number of tokens such as 500, 8K or 1M") from None


def _not_negative(value: int | None) -> int | None:
    if value is not None and value < 0:
        raise ValueError("a number of tokens cannot be negative")
    return value


TokenCount = Annotated[
    int | None,
    BeforeValidator(_tokens),
    AfterValidator(_not_negative),
    WithJsonSchema({"type": ["integer", "string", "null"]}),
]


class Section(BaseModel):
    """A mapping of the configuration file: closed, frozen."""

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, populate_by_name=True, str_strip_whitespace=False
    )

    NOT_ACTIVE: ClassVar[frozenset[str]] = frozenset()
    # What holds in the place of a key that is not active, for the warning.
    INSTEAD: ClassVar[dict[str, str]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _as_written(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Let the validation context see which mapping of the file is this section, before any validator copies it."""
        reader: Reader | None = info.context
        if reader is not None and isinstance(data, dict):
            reader.read(cls, data)
        return handler(data)


class Reader(Protocol):
    """Who reads a file: pydantic's validation context."""

    def read(self, section: type[Section], data: dict[str, Any]) -> None:
        """``data`` is ``section``. May take keys out of it."""
