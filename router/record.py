"""One request on record. Headers, log and audit lines, spans, explanations and route advice all derive from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from triton_router import names
from triton_router.cache.cache import Hit, Question
from triton_router.config.schema import Decision
from triton_router.decisions import Choice, nearness
from triton_router.errors import Refusal
from triton_router.protection import Verdict
from triton_router.runtime import RecipeRuntime
from triton_router.selection import Selection
from triton_router.signals import SignalInput, SignalResults

# How a request got its response: in metrics and audit lines by these words.
ResponsePath = Literal["routed", "fallback", "passthrough", "cache", "fast_response", "blocked", "error"]


@dataclass(slots=True)
class Record:
    """What the router did with one request. Its stages fill it in, each what it knows.

    ``path`` is ``None`` for paths that the router answers itself. ``recipe`` is the routing table that chooses;
    ``query``, ``signals``, ``choice`` and ``category`` are there where the router has chosen, ``question`` where the
    cache was asked, ``error`` where it refused. ``verdict`` is what protection says; ``blocked`` names the decision
    that refused, ``masked`` those for which personal data was masked. ``limits`` says what became of limits that do
    not hold, by rule, ``allowances`` what remains of others, as headers; ``release`` gives back what they hold.
    ``warnings`` are about the response. ``failures`` are the models that could not answer before, each with the
    reason, and ``alone`` is why no other is asked now, though there are some.
    ``stages`` are when each began and ended (``perf_counter``). A repeat that the memo answers has no signals.

    It has 24 attributes and 18 methods, because everything that is said of a request is derived from here.
    """

    generation: str
    request_id: str | None = None
    recipe: RecipeRuntime | None = field(default=None, repr=False)
    path: ResponsePath | None = None
    query: SignalInput | None = None
    signals: SignalResults | None = None
    choice: Choice | None = None
    category: str | None = None
    selection: Selection | None = None
    ignored: Sequence[str] = ()
    question: Question | None = None
    hit: Hit | None = None
    replay_id: str | None = None
    error: Refusal | None = None
    blocked: str | None = None
    verdict: Verdict = field(default_factory=Verdict)
    masked: tuple[str, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    allowances: Mapping[str, str] = field(default_factory=dict)
    release: Callable[[], None] = field(default=lambda: None, repr=False)
    warnings: tuple[str, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()
    alone: str | None = None
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def decisions(self) -> Sequence[Decision]:
        """Those among which the router chooses."""
        return self.recipe.decisions if self.recipe is not None else ()

    @property
    def decision(self) -> Decision | None:
        """The decision that won."""
        return self.choice.decision if self.choice is not None else None

    @property
    def degraded(self) -> Mapping[str, str]:
        """Why the request went without a part, by the part's name."""
        parts = self.signals.degraded if self.signals is not None else {}
        missing = self.selection.missing if self.selection is not None else None
        return parts if missing is None else {**parts, "adapter": missing}

    @property
    def repeatable(self) -> bool:
        """Whether the same request, sent again, would go the same way: nothing was missing or unknown."""
        if self.signals is None or self.degraded:
            return False
        return all(evaluation.matched is not None for evaluation in self.signals.evaluations.values())

    def routing(self) -> tuple[SignalResults, Choice, Selection]:
        """Signals, choice and selection of a request for which the router has chosen."""
        assert self.signals is not None and self.choice is not None and self.selection is not None
        return self.signals, self.choice, self.selection

    def repeat(self, earlier: Record, hit: Hit) -> None:
        """``hit`` answers this request, as it did ``earlier`` when the same one came."""
        self.choice, self.category, self.selection = earlier.choice, earlier.category, earlier.selection
        self.ignored, self.hit = earlier.ignored, hit

    def essence(self) -> Record:
        """What a repeat needs of it, and nothing that quotes the prompt."""
        choice = replace(self.choice, verdicts=()) if self.choice is not None else None
        selection = self.selection._replace(standings=()) if self.selection is not None else None
        return Record(
            self.generation,
            recipe=self.recipe,
            choice=choice,
            category=self.category,
            selection=selection,
            ignored=self.ignored,
        )

    def milliseconds(self) -> dict[str, float]:
        """How long each stage took."""
        return {stage: round((ended - began) * 1000, 3) for stage, (began, ended) in self.stages.items()}

    def scores(self) -> dict[str, float | None]:
        """How near each of :attr:`decisions` came, by name; see :func:`.decisions.nearness`."""
        verdicts = self.choice.verdicts if self.choice is not None else ()
        nearest = {
            decision.name: nearness(verdict) for decision, verdict in zip(self.decisions, verdicts, strict=False)
        }
        return {name: None if near is None else round(near, 4) for name, near in nearest.items()}

    # --- response headers ------------------------------------------------------------------------------------------

    @property
    def response_path(self) -> str | None:
        """The ``path`` as clients see it."""
        return "upstream" if self.path in ("routed", "fallback", "passthrough") else self.path

    @property
    def cache_hit(self) -> str | None:
        """`exact`, `semantic`, `coalesced` or `miss`; ``None`` where the cache was not asked."""
        if self.hit is not None:
            return self.hit.kind
        return "miss" if self.question is not None else None

    def headers(self) -> dict[str, str]:
        """What the response's headers say of the request."""
        headers = {names.GENERATION: self.generation}
        if (path := self.response_path) is not None:
            headers[names.RESPONSE_PATH] = path
        if self.blocked is not None:
            headers[names.BLOCKED] = self.blocked
        if self.verdict.shadow:
            headers[names.WOULD_BLOCK] = ",".join(self.verdict.shadow)
        if self.masked:
            headers[names.MASKED] = ",".join(self.masked)
        if self.warnings:
            headers[names.RESPONSE_WARNINGS] = ",".join(self.warnings)
        if self.limits:
            headers[names.LIMITS] = ", ".join(f"{rule}={note}" for rule, note in self.limits.items())
        if self.response_path == "upstream":
            headers |= self.allowances
        if self.error is None and self.selection is not None:
            headers[names.RESPONSE_MODEL] = self.selection.model
            if self.choice is not None:
                self._add_choice(headers, self.choice, self.selection)
                self._add_cache(headers)
        return headers

    def _add_choice(self, headers: dict[str, str], choice: Choice, selection: Selection) -> None:
        if self.recipe is not None and self.recipe.name:
            headers[names.RECIPE] = self.recipe.name
        if self.failures:
            headers[names.FALLBACK] = "->".join([*(model for model, _ in self.failures), selection.model])
        if self.alone is not None:
            headers[names.NO_FALLBACK] = self.alone
        if choice.decision is not None:
            headers[names.DECISION] = choice.decision.name
            headers[names.CONFIDENCE] = f"{choice.confidence:.4f}"
        if self.category is not None:
            headers[names.CATEGORY] = self.category
        headers[names.REASONING] = "on" if selection.use_reasoning else "off"
        if selection.missing is not None:
            headers[names.ADAPTER_FALLBACK] = selection.missing
        if degraded := self.degraded:
            headers[names.DEGRADED] = ",".join(degraded)
        if self.ignored:
            headers[names.IGNORED] = ",".join(self.ignored)
        if self.replay_id is not None:
            headers[names.REPLAY_ID] = self.replay_id
        if self.stages:
            headers[names.SERVER_TIMING] = ", ".join(
                [f"{stage};dur={(ended - began) * 1000:.3f}" for stage, (began, ended) in self.stages.items()]
            )

    def _add_cache(self, headers: dict[str, str]) -> None:
        if self.hit is not None:
            headers[names.CACHE_HIT] = self.hit.kind
            headers[names.CACHE_KEY] = self.hit.key
            headers[names.CACHE_SIMILARITY] = f"{self.hit.similarity:.4f}"
            headers[names.AGE] = str(int(self.hit.age))
        elif self.question is not None:
            headers[names.CACHE_HIT] = "miss"
            if self.question.may_store:
                headers[names.CACHE_KEY] = self.question.exact

    # --- lines -----------------------------------------------------------------------------------------------------

    def log_fields(self) -> dict[str, Any]:
        """What the log line of a routed request says."""
        selection, decision = self.selection, self.decision
        assert self.choice is not None and selection is not None
        fields: dict[str, Any] = {"request_id": self.request_id, "decision": decision.name if decision else None,
                  "category": self.category, "model": selection.model}  # fmt: skip
        if self.recipe is not None and self.recipe.name:
            fields["recipe"] = self.recipe.name
        if self.blocked is not None:
            fields["blocked"] = self.blocked
        if self.masked:
            fields["masked"] = ",".join(self.masked)
        if self.limits:
            fields["limits"] = dict(self.limits)
        if self.failures:
            fields |= self.failure_fields()
        if self.signals is None:
            return fields if self.failures else fields | {"repeat": True}
        return fields | {
            "confidence": round(self.choice.confidence, 4),
            "base": selection.base,
            "reasoning": selection.use_reasoning,
            "degraded": self.degraded,
            "ignored": self.ignored,
            "ms": self.milliseconds(),
        }

    def failure_fields(self) -> dict[str, Any]:
        """Who could not answer the request, and why."""
        return {"request_id": self.request_id, "failed": self.failed}

    @property
    def failed(self) -> list[dict[str, str]]:
        """:attr:`failures`, JSON-ready."""
        return [{"model": model, "reason": reason} for model, reason in self.failures]

    def audit_fields(self) -> dict[str, Any]:
        """Why the request went where it went, for whoever has to account for it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        fields = {"time": now, "generation": self.generation, "path": self.path, **self.log_fields()}
        if self.signals is None or self.choice is None or self.selection is None:
            return fields
        del fields["ms"]
        verdicts = zip(self.decisions, self.choice.verdicts, strict=True)
        return fields | {
            "adapter": self.selection.adapter,
            "matched_signals": [
                {"type": kind, "name": name, "value": round(signal.value, 4), "threshold": signal.threshold}
                | ({"where": signal.where} if signal.where else {})
                for (kind, name), signal in self.signals.evaluations.items()
                if signal.matched
            ],
            "matched_decisions": [decision.name for decision, verdict in verdicts if verdict.matched],
            "refused_hints": self.selection.refused_hints,
        }
