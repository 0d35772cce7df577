"""Settings of signals that are labels of a head in the signal bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from triton_router.config.kinds import SignalSettings
from triton_router.config.parts import PartNames
from triton_router.config.section import Name, Probability


class ClassifierSignal(SignalSettings):
    """A label of any head in the signal bundle."""

    TYPE, LIST = "classifier", "classifiers"
    PURPOSE = "Labels of the bundle's heads, for rules of `type: classifier`."

    NOT_ACTIVE = frozenset({"model_path", "instructions", "disable_rationale", "use_cpu"})

    type: Literal["head", "local", "llm"] = Field(
        "head",
        description="`head`: a head of the signal bundle. `local` and `llm` are models of vLLM Semantic Router; their "
        "signals are never known here.",
    )
    head: Name = Field("", description="Name of a head in the signal bundle; needed for `head`.")
    labels: tuple[Name, ...] = Field(
        min_length=1, description="Labels of that head. The sum of their probabilities must reach the threshold."
    )
    threshold: Probability = Field(0.5, description="Least probability.")
    model: Name | None = Field(None, description="Trunk whose head is read; default: the first that has it.")
    every_part: bool = Field(
        False,
        description="Read the whole conversation in passages, tool results too; the most probable passage counts. "
        "Default: only `parts`.",
    )
    parts: PartNames = ("topic",)

    @model_validator(mode="after")
    def _names_a_head(self) -> ClassifierSignal:
        if self.type == "head" and not self.head:
            raise ValueError("`head` is missing")
        return self


class HeadSignal(SignalSettings):
    """A label of the head called ``HEAD``.

    ``MEANING`` has the labels that a signal means by its name, as vLLM Semantic Router's files do without a `label`:
    the first that the head has counts. ``USUAL`` are those of any other name.
    """

    HEAD: ClassVar[str]
    MEANING: ClassVar[Mapping[str, tuple[str, ...]]]
    USUAL: ClassVar[tuple[str, ...]] = ()

    label: Name | None = Field(None, description="Label of the head; default: the one that the name means.")
    threshold: Probability = Field(0.5, description="Least probability of the label.")
    parts: PartNames = ("topic",)

    @classmethod
    def meant(cls, name: str) -> tuple[str, ...]:
        """The labels that ``name`` may stand for; none where it says nothing."""
        return cls.MEANING.get(name, cls.USUAL)


class FactCheckSignal(HeadSignal):
    """Whether the prompt asks for facts that can be checked."""

    TYPE, LIST, HEAD = "fact_check", "fact_check", "fact_check"
    PURPOSE = "Whether an answer has facts to check, for rules of `type: fact_check`."
    MEANING: ClassVar = {"no_fact_check_needed": ("no_fact_check_needed",)}
    USUAL = ("fact_check_needed",)


class UserFeedbackSignal(HeadSignal):
    """What the user's last turn says of the answer before it. A conversation without an answer does not match."""

    TYPE, LIST, HEAD = "user_feedback", "user_feedbacks", "user_feedback"
    PURPOSE = "What the user says of the last answer, for rules of `type: user_feedback`."
    MEANING: ClassVar = {
        "satisfied": ("satisfied", "sat"),
        "need_clarification": ("need_clarification",),
        "wrong_answer": ("wrong_answer",),
        "want_different": ("want_different",),
    }

    # The last turn alone: with the words that it goes on from it would be like them.
    parts: PartNames = ("own",)


class ModalitySignal(HeadSignal):
    """Whether the prompt asks for text or for an image."""

    TYPE, LIST, HEAD = "modality", "modality", "modality"
    PURPOSE = "Whether a text or an image is wanted, for rules of `type: modality`."
    MEANING: ClassVar = {
        "AR": ("text", "ar"),
        "DIFFUSION": ("image", "diffusion"),
        "BOTH": ("both",),
        "text": ("text", "ar"),
        "image": ("image", "diffusion"),
    }
