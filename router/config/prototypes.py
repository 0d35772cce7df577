"""Settings of comparisons with several examples: how their similarities become one number."""

from typing import ClassVar

from pydantic import Field

from triton_router.config.section import Section


class PrototypeScoring(Section):
    """Similarity of a prompt to examples: that of the nearest and the mean of the nearest few, each with its weight."""

    NOT_ACTIVE = frozenset({"cluster_similarity_threshold", "max_prototypes", "margin_threshold"})
    INSTEAD: ClassVar[dict[str, str]] = dict.fromkeys(NOT_ACTIVE, "the prompt is compared with every example")

    enabled: bool = Field(True, description="`false`: only the nearest example counts.")
    best_weight: float = Field(0.75, ge=0, le=1, description="Weight of the nearest example.")
    top_m: int = Field(2, ge=1, description="Number of nearest examples whose mean gets the rest of the weight.")
