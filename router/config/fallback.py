"""What happens to a request that its model cannot answer: which failures count, how long, and when a model rests."""

from typing import Literal, Self

from pydantic import Field, model_validator

from triton_router.config.section import Name, Seconds, Section


class CircuitBreakerSettings(Section):
    """When a failing model or adapter rests. The counts are shared; each policy judges them."""

    consecutive_failures: int = Field(
        5,
        ge=1,
        le=1_000_000,
        description="Consecutive failures after which a model or adapter rests for `cooldown_period`.",
    )
    cooldown_period: Seconds = Field(30, description="Seconds of rest after the last failure.")
    half_open_probes: int = Field(
        1, ge=1, le=1000, description="Most requests that try it after the rest, until one gets a response."
    )


class FallbackPolicy(Section):
    """The failures before the first byte that send a request to the next candidate, and the time for it.

    Candidates are those of the decision, in the order in which they would be chosen, and then `models`.
    """

    version: Literal[1] = Field(1, description="The form of this section; there is one.")
    enabled: bool = Field(True, description="Whether the next candidate is tried.")
    models: tuple[Name, ...] = Field(
        (), description="Models and adapters to try, in this order, when no candidate of the decision can answer."
    )
    max_attempts: int = Field(3, ge=1, le=5, description="Most candidates that a request tries, including the first.")
    total_timeout: Seconds | None = Field(
        None, description="Seconds from the request to the first byte, all candidates together. Default: no bound."
    )
    per_attempt_timeout: Seconds | None = Field(
        None,
        description="Seconds until an endpoint's response must begin; then the next one is tried. Default: with "
        "`total_timeout` an equal share of the remaining time, otherwise the model's `first_byte_timeout`.",
    )
    retryable_status_codes: tuple[int, ...] = Field(
        (429, 500, 502, 503, 504),
        description="Statuses that count as failures. Connections that break and timeouts always do.",
    )
    circuit_breaker: CircuitBreakerSettings = Field(
        default_factory=CircuitBreakerSettings, description="When a failing model or adapter rests."
    )

    @model_validator(mode="after")
    def _statuses_are_failures(self) -> Self:
        if wrong := [status for status in self.retryable_status_codes if not 400 <= status <= 599]:
            raise ValueError(f"`retryable_status_codes`: {wrong[0]} is no failure; they are from 400 to 599")
        return self
