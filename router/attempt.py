"""What is known of one attempt to have a request answered, as it travels with the request through Envoy.

It is a header that no client can send and no backend sees. So the router holds nothing for requests in progress, and
any worker can go on where another one stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from triton_router import names
from triton_router.body import Undo
from triton_router.exchange import Request

# It comes back as a header, and headers are bounded on their way; a request that would need more has one candidate.
LONGEST = 8000
Texts = dict[str, str | None]
"""Values of headers by name; ``None`` for what was not there."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A candidate that could not answer: its ``name`` (:func:`.vitals.named`), and the status or reason."""

    name: str
    reason: str

    @property
    def model(self) -> str:
        """The model or adapter as clients know it."""
        return self.name.rpartition("\n")[2]


@dataclass(frozen=True, slots=True)
class Guarded:
    """What protection has done with a request, and holds for every candidate.

    ``only`` names the models that may see it, where that is not for all. ``masked`` are the decisions for which
    personal data is masked: ``originals`` has the values by placeholder; ``json_wanted`` is as in
    :class:`.masking.Values`. ``screening`` are the decisions that screen the answer, ``shadow`` those that would have
    acted.
    """

    only: tuple[str, ...] | None = None
    masked: tuple[str, ...] = ()
    originals: dict[str, str] = field(default_factory=dict)
    json_wanted: bool = False
    screening: tuple[str, ...] = ()
    shadow: tuple[str, ...] = ()

    def allows(self, model: str) -> bool:
        """Whether a model or adapter may see the request."""
        return self.only is None or model in self.only


UNGUARDED = Guarded()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request on its way to the candidate ``name``, after ``failures`` of others.

    ``began`` and ``sent`` are when the request came and when this attempt began (``time.time``), ``within`` the
    seconds until its response had to begin. ``members`` takes back what this candidate changed in the body, and
    ``headers`` are those that it changed, as they were before. ``conceal``: the client is not to see the count of
    tokens.

    It has 13 attributes: all that the router knows of it.
    """

    name: str = ""
    recipe: str = ""
    decision: str | None = None
    confidence: float = 0.0
    category: str | None = None
    began: float = 0.0
    sent: float = 0.0
    within: float | None = None
    failures: tuple[Failure, ...] = ()
    members: dict[str, Undo] = field(default_factory=dict)
    headers: Texts = field(default_factory=dict)
    conceal: bool = False
    guarded: Guarded = UNGUARDED

    @classmethod
    def decode(cls, text: str) -> Attempt:
        """Raises ``ValueError``, ``TypeError`` or ``KeyError`` for what :func:`encode` has not written."""
        fields = {**json.loads(text.removeprefix("longer "))}
        failures = tuple(Failure(*each) for each in fields.pop("failures", ()))
        guarded = Guarded(**fields["guarded"]) if "guarded" in fields else UNGUARDED
        return cls(**fields | {"failures": failures, "guarded": guarded})


BEGINNING = Attempt()


def encode(fields: Mapping[str, Any]) -> str:
    """The header for an :class:`Attempt` with these ``fields``; those with their default value may be missing."""
    try:
        text = orjson.dumps(fields).decode()
    except orjson.JSONEncodeError:  # a lone surrogate
        text = ""
    if text and text.isascii() and text.isprintable():
        return text
    # A header would not carry the rest, or not as it is.
    return json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f")


def restored(request: Request, attempt: Attempt) -> Request:
    """``request`` with the headers that it had before ``attempt``, and without what Envoy added."""
    headers = {name: value for name, value in request.headers.items() if name not in names.RETURNED}
    for name, value in attempt.headers.items():
        if value is None:
            headers.pop(name, None)
        else:
            headers[name] = value
    return replace(request, headers=headers)
