"""Settings of the choice among a decision's candidates, by what they cost and how they do at the moment."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from triton_router.config.section import Milliseconds, Probability, Seconds, Section

# Algorithms of vLLM Semantic Router that are not here: a decision with one of them shares its requests by weight.
INACTIVE_ALGORITHMS = frozenset(
    {"automix", "confidence", "elo", "fusion", "gmtrouter", "hybrid", "kmeans", "knn", "mlp", "prompt", "ratings",
     "remom", "rl_driven", "router_dc", "session_aware", "svm", "thompson", "workflows"}
)  # fmt: skip


class Slo(Section):
    """Bounds that a candidate must keep to be chosen. A value that is not known keeps its bound."""

    max_ttft_ms: Milliseconds | None = Field(None, description="Milliseconds to the first token of a stream.")
    max_tpot_ms: Milliseconds | None = Field(None, description="Milliseconds per output token.")
    max_cost_per_1m: float | None = Field(None, ge=0, description="Mean price of a million input and output tokens.")
    max_inflight: int | None = Field(None, ge=1, description="Requests in flight, from all processes of the host.")


class LatencyAware(Section):
    """The fastest candidates share the requests."""

    ttft_percentile: int | None = Field(
        None, ge=1, le=100, description="Percentile of the time to the first token. If only this percentile is set, "
        "only this time counts.",
    )  # fmt: skip
    tpot_percentile: int | None = Field(
        None, ge=1, le=100, description="Percentile of the time per output token. Default for both: the mean."
    )
    description: str | None = Field(None, description="Documentation only.")
    slo: Slo = Field(default_factory=Slo, description="Bounds that candidates must keep.")


class CostAware(Section):
    """The cheapest candidate that keeps the bounds. Without a price a model is free."""

    slo: Slo = Field(default_factory=Slo, description="Bounds that candidates must keep.")


class FactorWeights(Section):
    """Weights of the factors; only their proportion counts."""

    quality: float = Field(0.25, ge=0, description="`modelRefs[].score`, or else `quality_score` of the model card.")
    latency: float = Field(0.25, ge=0, description="Time to the first token, and time per output token.")
    cost: float = Field(0.25, ge=0, description="Mean price of an input and an output token.")
    load: float = Field(0.25, ge=0, description="Requests in flight and waiting, per endpoint of the model.")

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not (self.quality or self.latency or self.cost or self.load):
            raise ValueError("one of the weights must be more than 0")
        return self


Factor = Literal["quality", "latency", "cost", "load"]


class Priority(Section):
    """One step of a lexicographic objective."""

    factor: Factor = Field(description="Factor of this step; candidates near the best one remain.")
    tolerance: Probability = Field(
        0, description="Allowed distance, relative to the best value. Latency and load fluctuate, so give them some."
    )


class Objective(Section):
    """How factors are compared."""

    strategy: Literal["weighted", "lexicographic"] = Field(
        "weighted", description="`weighted`: by the sum of all factors. `lexicographic`: by one after the other."
    )
    priorities: tuple[Priority, ...] = Field(
        default_factory=lambda: tuple(Priority(factor=factor) for factor in ("quality", "cost", "latency", "load")),
        min_length=1,
        description="For `lexicographic`, the most important first. Default: `quality`, `cost`, `latency`, `load`.",
    )

    @model_validator(mode="after")
    def _each_factor_once(self) -> Self:
        factors = [each.factor for each in self.priorities]
        if twice := [factor for factor in factors if factors.count(factor) > 1]:
            raise ValueError(f"`priorities`: `{twice[0]}` is there twice")
        return self


class MultiFactor(Section):
    """The best weighted sum of factors, each relative to the best candidate's, or one factor after the other."""

    NOT_ACTIVE = frozenset({"quality"})
    INSTEAD: ClassVar[dict[str, str]] = {"quality": "`quality_score` of the model cards counts"}

    objective: Objective = Field(
        default_factory=Objective, description="Whether factors are summed, or compared one after the other."
    )
    weights: FactorWeights = Field(
        default_factory=FactorWeights, description="Weights of the factors, for the objective `weighted`."
    )
    expected_output_tokens: int | None = Field(
        None, ge=1, description="Number of output tokens in the price of a request. Default: as many as the prompt "
        "has.",
    )  # fmt: skip
    slo: Slo = Field(default_factory=Slo, description="Bounds that candidates must keep.")
    latency_percentile: int | None = Field(
        None, ge=1, le=100, description="Percentile of both latencies that counts; default: the mean."
    )
    latency_metric: Literal["ttft", "tpot"] | None = Field(None, description="The only latency; default: both.")
    on_no_candidates: Literal["cheapest", "first", "fail"] = Field(
        "cheapest", description="If no candidate keeps the bounds: the cheapest, the first, or 503."
    )


class Algorithm(Section):
    """How one of several candidates is chosen."""

    NOT_ACTIVE = frozenset({"minimum_candidates", "on_error", *INACTIVE_ALGORITHMS})

    type: Literal["static", "latency_aware", "cost_aware", "multi_factor"] = Field(
        description="`static`: by score and weight alone. The others look at the candidates."
    )
    latency_aware: LatencyAware = Field(default_factory=LatencyAware, description="For `type: latency_aware`.")
    cost_aware: CostAware = Field(default_factory=CostAware, description="For `type: cost_aware`.")
    multi_factor: MultiFactor = Field(default_factory=MultiFactor, description="For `type: multi_factor`.")

    def factors(self) -> MultiFactor | None:
        """The algorithm as a sum of factors; ``None`` for `static`."""
        match self.type:
            case "latency_aware":
                alone = FactorWeights(quality=0, latency=1, cost=0, load=0)
                return MultiFactor(weights=alone, slo=self.latency_aware.slo)
            case "cost_aware":
                alone = FactorWeights(quality=0, latency=0, cost=1, load=0)
                return MultiFactor(weights=alone, slo=self.cost_aware.slo)
            case "multi_factor":
                return self.multi_factor
        return None

    def percentiles(self) -> tuple[int | None, int | None, bool, bool]:
        """Percentiles of the first token and of each one (``None``: the mean), and whether each of the two counts."""
        if self.type == "latency_aware":
            first, each = self.latency_aware.ttft_percentile, self.latency_aware.tpot_percentile
            neither = first is None and each is None
            return first, each, neither or first is not None, neither or each is not None
        settings = self.multi_factor
        percentile, metric = settings.latency_percentile, settings.latency_metric
        return percentile, percentile, metric != "tpot", metric != "ttft"


class LoadPolling(Section):
    """Polling of vLLM's `/metrics`, once for all workers: waiting requests, and the KV cache."""

    enabled: bool = Field(False, description="Poll the models that an `algorithm` may choose.")
    interval_seconds: Seconds = Field(1, description="Seconds between polls of each backend.")
    timeout_seconds: Seconds = Field(1, description="Timeout of one poll, in seconds.")


class Probing(Section):
    """Requests to candidates that are slow or full, to notice their recovery."""

    share: Probability = Field(
        0.005, description="Share of a decision's requests that each such candidate gets, one at a time."
    )
    after_seconds: Seconds = Field(
        5, description="Seconds without an answer after which such a candidate gets a request in any case."
    )
