"""Evaluating all signals that the decisions of a configuration need, with one call to the encoder at most."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.config import Config, leaves
from router.config.schema import DomainSignal
from router.inference import BundleError, Encoder, Encoding, Unavailable
from router.signals import UNKNOWN, Evaluation, domain, keyword
from router.signals.domain import (
    DomainScorer,
    DomainScores,
    Prototype,
    TopicParameters,
    label_texts,
    normalised,
)
from router.telemetry import Metrics

DOMAIN_HEAD = "domain"


@dataclass(slots=True)
class Gathered:
    """The evaluations of one prompt, and what could not be asked.

    ``degraded`` names the parts that were down, ``reasons`` says why; ``encoder_ms`` is the time spent on the encoder
    (tokenising, the call, pooling).
    """

    evaluations: dict[tuple[str, str], Evaluation]
    domains: DomainScores | None = None
    encoding: Encoding | None = None
    degraded: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    encoder_ms: float = 0.0


class Gatherer:
    """Holds what signals need between requests. Immutable but for :meth:`prepare`."""

    def __init__(self, config: Config, encoder: Encoder | None, topics: TopicParameters, metrics: Metrics) -> None:
        used = {(rule.type, rule.name) for decision in config.routing.decisions for rule in leaves(decision)}
        signals = config.routing.signals
        self._encoder, self._topics, self._metrics = encoder, topics, metrics
        self._keywords = keyword.KeywordMatcher(s for s in signals.keywords if (keyword.TYPE, s.name) in used)
        # All of them, used or not: domains compete, so each declared one has a say in who wins.
        self._domains = signals.domains
        self._needs_encoder = any(kind == domain.TYPE for kind, _ in used)
        head = encoder.trunk.head(DOMAIN_HEAD) if encoder else None
        self._labels = head.labels if head else ()
        unlabelled = [signal.name for signal in self._unlabelled()]
        if encoder is not None and unlabelled and not topics.label_embeddings:
            names = ", ".join(unlabelled)
            raise BundleError(f"the signal bundle cannot score domains that its head does not know: {names}")
        self._scorer = self._build_scorer({})

    async def prepare(self) -> None:
        """Embed the names of domains that the head does not know; until then those are unknown.

        Raises:
            Unavailable: the encoder could not answer.
        """
        if self._encoder is None:
            return
        prototypes: dict[str, Prototype] = {}
        for signal in self._unlabelled():
            encodings = await self._encoder.encode_each(label_texts(signal.name, signal.description))
            embeddings = [encoding.embedding for encoding in encodings]
            prototypes[signal.name] = Prototype.of(embeddings, [encoding.heads[DOMAIN_HEAD] for encoding in encodings])
        self._scorer = self._build_scorer(prototypes)

    async def gather(self, text: str, *, always_encode: bool = False) -> Gathered:
        """Evaluate every needed signal on ``text``. Never fails: what cannot be asked is unknown and named."""
        gathered = Gathered(self._keywords.evaluate(text))
        if not text.strip():
            gathered.domains = self._scorer.nothing_said()
        elif self._encoder is not None and (self._needs_encoder or always_encode):
            await self._encode(text, gathered)
        if self._needs_encoder or always_encode:
            gathered.evaluations |= self._domain_evaluations(gathered)
        return gathered

    def _build_scorer(self, prototypes: dict[str, Prototype]) -> DomainScorer:
        names = [signal.name for signal in self._domains]
        return DomainScorer(names, self._labels, self._topics, prototypes)

    def _unlabelled(self) -> list[DomainSignal]:
        known = {normalised(label) for label in self._labels}
        return [signal for signal in self._domains if normalised(signal.name) not in known]

    async def _encode(self, text: str, gathered: Gathered) -> None:
        assert self._encoder is not None
        try:
            encoding = await self._encoder.encode(text)
        except Unavailable as unavailable:
            self._metrics.signal_errors.labels(domain.TYPE, unavailable.reason).inc()
            gathered.degraded.append("triton")
            gathered.reasons.append(unavailable.reason)
            return
        gathered.encoding = encoding
        gathered.encoder_ms = encoding.ms
        gathered.domains = self._scorer.score(encoding.embedding, encoding.heads[DOMAIN_HEAD])

    def _domain_evaluations(self, gathered: Gathered) -> dict[tuple[str, str], Evaluation]:
        scores, ms = gathered.domains, gathered.encoder_ms
        names = [signal.name for signal in self._domains]
        return {(domain.TYPE, name): _evaluation(name, scores, ms) if scores else UNKNOWN for name in names}


def _evaluation(name: str, scores: DomainScores, ms: float) -> Evaluation:
    if name == scores.winner:
        return Evaluation(True, scores.confidence, scores.threshold, ms)
    if name in scores.probabilities:
        return Evaluation(False, scores.probabilities[name], scores.threshold, ms)
    return UNKNOWN
