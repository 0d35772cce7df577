"""Settings of signals that protect."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from triton_router.config.kinds import SignalSettings
from triton_router.config.section import Name, Probability


class JailbreakSignal(SignalSettings):
    """Attempts to lift a model's rules, and instructions smuggled into a text. Reads every part of a conversation."""

    TYPE, LIST = "jailbreak", "jailbreak"
    PURPOSE = "Jailbreaks and injections, for rules of `type: jailbreak`."

    method: Literal["classifier", "hybrid"] = Field(
        "classifier", description="`classifier`: the bundle's head `jailbreak`; `hybrid` means the same."
    )
    threshold: Probability = Field(0.5, description="Least probability of the labels, in the most probable passage.")
    labels: tuple[Name, ...] = Field(
        ("jailbreak", "prompt_injection"),
        min_length=1,
        description="Labels of the head that count, as far as it has them.",
    )
    include_history: bool = Field(True, description="Accepted; earlier turns are read in any case.")


class PiiSignal(SignalSettings):
    """Personal data that has a form. Names and addresses have none and are not detected."""

    TYPE, LIST = "pii", "pii"
    PURPOSE = "Personal data, for rules of `type: pii`."

    pii_types_allowed: tuple[Name, ...] = Field((), description="Types that do not match; all others do.")
    pii_types_denied: tuple[Name, ...] = Field((), description="The only types that match; default: all.")
    threshold: Probability = Field(0.5, description="Accepted; rules are certain.")
    include_history: bool = Field(True, description="Accepted; earlier turns are read in any case.")

    @model_validator(mode="after")
    def _one_list(self) -> PiiSignal:
        if self.pii_types_allowed and self.pii_types_denied:
            raise ValueError("give one of `pii_types_allowed` and `pii_types_denied`")
        return self
