"""Settings of signals that protect."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from triton_router.config.kinds import SignalSettings
from triton_router.config.section import Name, Phrase, Probability


class JailbreakSignal(SignalSettings):
    """Attempts to lift a model's rules, and instructions smuggled into a text. Reads every part of a conversation."""

    TYPE, LIST = "jailbreak", "jailbreak"
    PURPOSE = "Jailbreaks and injections, for rules of `type: jailbreak`."

    method: Literal["classifier", "hybrid", "contrastive"] = Field(
        "classifier",
        description="`classifier`: the bundle's head `jailbreak`; `hybrid` means the same. `contrastive`: compares "
        "only the user's words, with `jailbreak_patterns` and `benign_patterns`.",
    )
    threshold: Probability = Field(
        0.5,
        description="Least probability of the labels, in the most probable passage. For `contrastive`: least margin "
        "of the cosines, by default 0.1.",
    )
    jailbreak_patterns: tuple[Phrase, ...] = Field((), description="Attacks, for `contrastive`.")
    benign_patterns: tuple[Phrase, ...] = Field((), description="Harmless prompts, for `contrastive`.")
    direction: Literal["request", "response"] = Field(
        "request", description="What to read. `response` needs the plugin `response_jailbreak` and sets its threshold."
    )
    labels: tuple[Name, ...] = Field(
        ("jailbreak", "prompt_injection"),
        min_length=1,
        description="Labels that count; those that the head lacks do not.",
    )
    include_history: bool = Field(True, description="No effect: the signal always reads earlier turns.")

    @model_validator(mode="before")
    @classmethod
    def _a_margin_is_less_than_a_probability(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("method") == "contrastive" and "threshold" not in data:
            return {**data, "threshold": 0.1}
        return data

    @model_validator(mode="after")
    def _has_patterns(self) -> Self:
        if self.method == "contrastive" and not (self.jailbreak_patterns and self.benign_patterns):
            raise ValueError("`contrastive` needs `jailbreak_patterns` and `benign_patterns`")
        return self


class PiiSignal(SignalSettings):
    """Personal data with a recognisable form; also names and addresses, if they are listed."""

    TYPE, LIST = "pii", "pii"
    PURPOSE = "Personal data, for rules of `type: pii`."

    pii_types_allowed: tuple[Name, ...] = Field((), description="Types that do not match; all others do.")
    pii_types_denied: tuple[Name, ...] = Field(
        (),
        description="The only types that match; default: all with a recognisable form. Names and addresses need "
        "a model.",
    )
    threshold: Probability = Field(0.5, description="No effect: rules are certain.")
    include_history: bool = Field(True, description="No effect: the signal always reads earlier turns.")

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.pii_types_allowed and self.pii_types_denied:
            raise ValueError("give one of `pii_types_allowed` and `pii_types_denied`")
        return self
