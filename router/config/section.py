"""The base of every part of the configuration: a closed, frozen section, and the types of its values."""

import ipaddress
import re
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def word(value: Any) -> Any:
    """``value``, and a switch as the word that it is written as."""
    return str(value).lower() if isinstance(value, bool) else value


# What is compared with prompts: a keyword may be a long expression, an example a whole prompt.
Phrase = Annotated[str, StringConstraints(min_length=1, max_length=8192)]
# Operators, in either case.
UPPER_CASE = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
Milliseconds = Annotated[float, Field(gt=0, le=600_000)]


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def _seconds(value: Any) -> Any:
    """`30s`, `500ms`, `1m30s` and `1h` are durations; a number is seconds already."""
    part = r"([0-9.]+)\s*(ms|s|m|h)\s*"
    if not isinstance(value, str) or re.fullmatch(rf"\s*({part})+", value) is None:
        return value
    try:
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(part, value))
    except ValueError:
        raise ValueError(f"`{value}` is not a duration such as 30s, 500ms or 1m30s") from None


# A day: Envoy takes more, and its sums of durations do not.
Seconds = Annotated[
    float, Field(ge=0.001, le=86_400), BeforeValidator(_seconds), WithJsonSchema({"type": ["number", "string"]})
]
Probability = Annotated[float, Field(ge=0, le=1)]
Similarity = Annotated[float, Field(ge=-1, le=1)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=128)]
LowerHeaderName = Annotated[HeaderName, StringConstraints(to_lower=True)]

_MASK = "**********"


def _masked(address: str) -> str:
    """The scheme and the host of ``address``: passwords stand before the host, keys in a query or a path."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return _MASK
    # Behind the last `@`, as a password may hold anything.
    host = re.split(r"[/?#]", rest.rpartition("@")[2], maxsplit=1)[0]
    hidden = f"{_MASK}@" if "@" in rest else ""
    return f"{scheme}://{hidden}{host}" + ("" if rest.rstrip("/").endswith(host) else f"/{_MASK}")


# An address that may hold a secret: whole to the program, masked wherever it is shown.
Address = Annotated[Name, PlainSerializer(_masked, when_used="json")]

HOST_AND_PORT = r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}"

BASE_URL = (
    r"^(?P<scheme>https?)://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*/?)$"
)


def scheme_and_path(ref: dict[str, Any]) -> tuple[str, str] | None:
    """Those of the `base_url` of ``ref``, plain data; ``None`` without one."""
    match = re.match(BASE_URL, str(ref.get("base_url") or ""))
    return (match["scheme"], match["path"].rstrip("/")) if match else None


CacheScope = Literal["user", "tenant", "global"]

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def is_ip(host: str) -> bool:
    """Whether ``host`` is an address rather than a name, which may stand for several."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host(host: str) -> str:
    """An IP address without brackets, or a name that DNS takes."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if re.fullmatch(r"[0-9.]+", host) or ":" in host:
            raise ValueError(f"`{host}` is not an IP address") from None
        labels = host.removesuffix(".").split(".")
        if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
            raise ValueError(f"`{host}` is neither an IP address nor a host name") from None
    return host


def _endpoint(endpoint: str) -> str:
    host, _, port = endpoint.rpartition(":")
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"port {port} is not between 1 and 65535")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError(f"`{host}` is not an IPv6 address in brackets") from None
    else:
        _host(host)
    return endpoint


def _ip_address(host: str) -> str:
    if host != "localhost":
        ipaddress.ip_address(host)
    return host


Host = Annotated[str, AfterValidator(_host)]
IpAddress = Annotated[str, AfterValidator(_ip_address)]
Endpoint = Annotated[str, StringConstraints(pattern=rf"{HOST_AND_PORT}$"), AfterValidator(_endpoint)]


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
        # `keywords: [404]` is a text all the same.
        coerce_numbers_to_str=True,
        defer_build=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        str_strip_whitespace=False,
    )

    NOT_ACTIVE: ClassVar[frozenset[str]] = frozenset()
    # Those of them that are there to protect: a file that sets one is refused, unless its author allows it.
    PROTECTIVE: ClassVar[frozenset[str]] = frozenset()
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
