"""Settings of signals that are labels of a head in the signal bundle."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from triton_router.config.kinds import SignalSettings
from triton_router.config.parts import PartNames
from triton_router.config.section import Name, Probability


class ClassifierSignal(SignalSettings):
    """Labels of any head in the signal bundle. Rules name the signal, or one of its labels as `NAME:LABEL`."""

    TYPE, LIST = "classifier", "classifiers"
    PURPOSE = "Labels of the bundle's heads, for rules of `type: classifier`."

    NOT_ACTIVE = frozenset({"model_path", "instructions", "disable_rationale", "use_cpu"})

    type: Literal["head", "local", "llm"] = Field(
        "head",
        description="`head`: a head of the signal bundle. `local` and `llm` are models of vLLM Semantic Router; "
        "their signals are always unknown here.",
    )
    head: Name = Field("", description="Name of a head in the signal bundle; needed for `head`.")
    labels: tuple[Name, ...] = Field(
        min_length=1, description="Labels of that head. The sum of their probabilities must reach the threshold."
    )
    threshold: Probability = Field(0.5, description="Least probability.")
    model: Name | None = Field(None, description="Trunk whose head to read; default: the first with this head.")
    every_part: bool = Field(
        False,
        description="Read the whole conversation in passages, tool results too; the most probable passage counts. "
        "`false`: read only `parts`.",
    )
    parts: PartNames = ("topic",)

    @classmethod
    def rule_names(cls, entry: Mapping[str, Any]) -> tuple[str, ...]:
        labels = entry.get("labels")
        listed = labels if isinstance(labels, list | tuple) else ()
        return tuple(each for name in super().rule_names(entry) for each in (name, *(f"{name}:{x}" for x in listed)))

    @model_validator(mode="after")
    def _names_a_head(self) -> Self:
        if self.type == "head" and not self.head:
            raise ValueError("`head` is missing")
        return self


class HeadSignal(SignalSettings):
    """A label of the head called ``HEAD``.

    ``MEANING`` has the labels that a signal means by its name, as vLLM Semantic Router's files do without a `label`:
    the first that the head has counts. ``HINTS`` are the beginnings of words that tell it in any other name, or in the
    description; the first one counts. ``USUAL`` are the labels without any.
    """

    HEAD: ClassVar[str]
    MEANING: ClassVar[Mapping[str, tuple[str, ...]]]
    HINTS: ClassVar[Mapping[str, str]] = {}
    USUAL: ClassVar[tuple[str, ...]] = ()

    label: Name | None = Field(None, description="Label of the head; default: the one that the name means.")
    threshold: Probability = Field(0.5, description="Least probability of the label.")
    parts: PartNames = ("topic",)

    @classmethod
    def meant(cls, name: str, description: str | None = None) -> tuple[str, ...]:
        """The labels that ``name`` may stand for, or else the ``description``; none where they say nothing."""
        if name in cls.MEANING:
            return cls.MEANING[name]
        for text in (name, description or ""):
            words = re.findall(r"[a-z]+", text.lower())
            hint = next((hint for word in words for hint in cls.HINTS if _begins(word, hint)), None)
            if hint is not None:
                return cls.MEANING[cls.HINTS[hint]]
        return cls.USUAL


def _begins(word: str, hint: str) -> bool:
    """Whether ``word`` begins with ``hint``; short ones are whole words."""
    return word == hint or (len(hint) > 3 and word.startswith(hint))


class FactCheckSignal(HeadSignal):
    """Whether the prompt asks for facts that can be checked."""

    TYPE, LIST, HEAD = "fact_check", "fact_check", "fact_check"
    PURPOSE = "Whether the answer will have checkable facts, for rules of `type: fact_check`."
    MEANING: ClassVar = {
        "needs_fact_check": ("fact_check_needed",),
        "no_fact_check_needed": ("no_fact_check_needed",),
    }
    HINTS: ClassVar = {
        **dict.fromkeys(("needs", "need", "requires", "fact", "verif", "claim"), "needs_fact_check"),
        **dict.fromkeys(("no", "not", "without", "skip", "creative"), "no_fact_check_needed"),
    }
    USUAL = ("fact_check_needed",)

    threshold: Probability = Field(0.6, description="Least probability of the label.")


class UserFeedbackSignal(HeadSignal):
    """The user's opinion of the last answer, in the last turn. A conversation without an answer does not match."""

    TYPE, LIST, HEAD = "user_feedback", "user_feedbacks", "user_feedback"
    PURPOSE = "The user's opinion of the last answer, for rules of `type: user_feedback`."
    MEANING: ClassVar = {
        "satisfied": ("satisfied", "sat"),
        "need_clarification": ("need_clarification",),
        "wrong_answer": ("wrong_answer",),
        "want_different": ("want_different",),
    }
    HINTS: ClassVar = {
        **dict.fromkeys(("clarif", "confus", "unclear", "explain", "understand"), "need_clarification"),
        **dict.fromkeys(("different", "alternat", "another", "rephras"), "want_different"),
        **dict.fromkeys(
            ("wrong", "incorrect", "inaccurate", "correct", "error", "mistake", "dissatisf", "unsatisf", "unhappy",
             "negative", "complain", "fail"), "wrong_answer",
        ),
        **dict.fromkeys(("satisf", "happy", "thank", "positive", "pleased"), "satisfied"),
    }  # fmt: skip

    # The last turn alone: with the words that it goes on from it would be like them.
    parts: PartNames = ("own",)


class ModalitySignal(HeadSignal):
    """Whether the prompt asks for text or for an image."""

    TYPE, LIST, HEAD = "modality", "modality", "modality"
    PURPOSE = "Whether the user wants a text or an image, for rules of `type: modality`."
    MEANING: ClassVar = {
        "AR": ("text", "ar"),
        "DIFFUSION": ("image", "diffusion"),
        "BOTH": ("both",),
        "text": ("text", "ar"),
        "image": ("image", "diffusion"),
    }
    HINTS: ClassVar = {
        **dict.fromkeys(("both", "mixed", "multimodal", "omni"), "BOTH"),
        **dict.fromkeys(("image", "picture", "photo", "draw", "diffus", "visual"), "DIFFUSION"),
        **dict.fromkeys(("text", "autoregress", "language", "chat"), "AR"),
    }
