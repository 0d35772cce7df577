"""Evaluating all signals that the decisions of a configuration need: one call to the encoder, and MCP beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import numpy as np

from router.config import Config, leaves
from router.config.schema import DomainSignal, SemanticCachePlugin
from router.identity import believed
from router.inference import BundleError, Encoder, Encoding, Prototypes, Unavailable
from router.signals import UNKNOWN, Asked, Evaluation, authz, complexity, domain, embedding, mcp, reask
from router.signals import context as context_signal
from router.signals import conversation as conversation_signal
from router.signals import keyword as keyword_signal
from router.signals import language as language_signal
from router.signals import metadata as metadata_signal
from router.signals import structure as structure_signal
from router.signals.domain import DomainScorer, DomainScores, Prototype, TopicParameters, label_texts, unlabelled
from router.signals.mcp import Classified, McpClassifier, McpUnavailable
from router.telemetry import Metrics

log = logging.getLogger(__name__)

DOMAIN_HEAD = "domain"

Found = dict[tuple[str, str], Evaluation]
Declared = TypeVar("Declared")


@dataclass(slots=True)
class Gathered:
    """The evaluations of one request, and what could not be asked.

    ``degraded`` names the parts that were down, ``reasons`` says why. ``classified`` is what the MCP server said.
    ``asked`` holds when the ``encoder`` (tokenising, the call, pooling) and the ``mcp`` server were asked and when they
    were done (``perf_counter``).
    """

    evaluations: Found
    domains: DomainScores | None = None
    encoding: Encoding | None = None
    classified: Classified | None = None
    degraded: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    asked: dict[str, tuple[float, float]] = field(default_factory=dict)

    def without(self, part: str, reason: str) -> None:
        """Note that ``part`` could not be asked."""
        self.degraded.append(part)
        self.reasons.append(reason)


class Gatherer:
    """Holds what signals need between requests. Immutable but for :meth:`prepare`."""

    def __init__(
        self,
        config: Config,
        encoder: Encoder | None,
        topics: TopicParameters,
        metrics: Metrics,
        *,
        prototypes: Prototypes | None = None,
        classifier: McpClassifier | None = None,
    ) -> None:
        signals, services = config.routing.signals, config.global_.services
        used = _Used(config)
        self._encoder, self._topics, self._metrics, self._prototypes = encoder, topics, metrics, prototypes
        self._classifier = classifier if used.types & {mcp.TYPE} else None
        self._keywords = keyword_signal.KeywordMatcher(used.of(keyword_signal.TYPE, signals.keywords))
        self._structure = structure_signal.StructureMeter(used.of(structure_signal.TYPE, signals.structure))
        self._context = context_signal.ContextRanges(used.of(context_signal.TYPE, signals.context))
        self._conversation = conversation_signal.ConversationCounter(
            used.of(conversation_signal.TYPE, signals.conversation)
        )
        self._metadata = metadata_signal.MetadataReader(used.of(metadata_signal.TYPE, signals.metadata))
        languages = used.of(language_signal.TYPE, signals.language)
        self._language = language_signal.LanguageDetector(languages) if languages else None
        self._roles = authz.Roles(
            (each for each in signals.role_bindings if used.names[authz.TYPE] & {each.name, each.role}),
            services.authz.identity,
        )
        self._embeddings = used.of(embedding.TYPE, signals.embeddings)
        self._complexity = [each for each in signals.complexity if used.has_level(each.name)]
        self._reask = reask.ReaskRules(used.of(reask.TYPE, signals.reasks))
        self._mcp_names = sorted(used.names[mcp.TYPE])
        self._identity = services.authz.identity
        modules = config.global_.model_catalog.modules.classifier
        self._mcp = modules.mcp
        self._judging = modules.domain
        # All of them, used or not: domains compete, so each declared one has a say in who wins.
        self._domains = signals.domains
        self._needs_domains = domain.TYPE in used.types
        # A cache looks for questions that mean the same.
        self._needs_encoder = _has_semantic_cache(config) or bool(
            used.types & {domain.TYPE, embedding.TYPE, complexity.TYPE, reask.TYPE}
        )
        head = encoder.trunk.head(DOMAIN_HEAD) if encoder else None
        self._labels = head.labels if head else ()
        self._check_topics()
        self._topics_texts = {signal.name: self._topic_texts(signal) for signal in self._unlabelled()}
        self._compare({})

    @property
    def roles_needed(self) -> bool:
        """Whether some decision asks who is calling."""
        return self._roles.needed

    async def prepare(self) -> None:
        """Encode the texts that prompts are compared with; until then those signals are unknown.

        Raises:
            Unavailable: the encoder could not answer.
        """
        if self._prototypes is not None:
            self._compare(await self._prototypes.encode(self._texts()))

    async def gather(self, asked: Asked, *, everything: bool = False) -> Gathered:
        """Evaluate every needed signal. Never fails: what cannot be asked is unknown and named.

        ``everything`` asks the encoder for the domain even if no decision needs it.
        """
        gathered = Gathered(self._local(asked))
        judged = self._judge(asked, gathered, everything)
        if self._classifier is None:
            await judged
        else:
            await asyncio.gather(judged, self._classify(asked, gathered))
        return gathered

    # --- local signals ---------------------------------------------------------------------------------------------

    def _local(self, asked: Asked) -> Found:
        found = self._keywords.evaluate(asked.prompt)
        found |= self._structure.evaluate(asked.prompt)
        found |= self._context.evaluate(asked.request)
        found |= self._conversation.evaluate(asked.request)
        found |= self._metadata.evaluate(asked.request)
        found |= self._roles.evaluate(asked.headers)
        if self._language is not None:
            found |= self._language.evaluate(asked.prompt)
        return found

    # --- the encoder -----------------------------------------------------------------------------------------------

    async def _judge(self, asked: Asked, gathered: Gathered, everything: bool) -> None:
        if not self._needs_encoder and not everything:
            return
        if not asked.prompt.strip():
            gathered.domains = self._scorer.nothing_said()
        elif self._encoder is not None:
            await self._encode(self._encoder, asked, gathered)
        encoding = gathered.encoding
        vector, ms = (encoding.embedding, encoding.ms) if encoding else (None, 0.0)
        if self._needs_domains or everything:
            gathered.evaluations |= self._domain_evaluations(gathered.domains, ms)
        gathered.evaluations |= self._embedding_rules.evaluate(vector, ms)
        gathered.evaluations |= self._complexity_rules.evaluate(vector, ms)
        gathered.evaluations |= self._reask.evaluate(vector, encoding.beside if encoding else None, ms)

    async def _encode(self, encoder: Encoder, asked: Asked, gathered: Gathered) -> None:
        if encoder.trunk.latin_only and language_signal.foreign_script(asked.prompt):
            # The trunk would answer, and the answer would mean nothing.
            gathered.without("language", "script")
            return
        started, called = perf_counter(), encoder.failure is None
        try:
            earlier = self._reask.earlier(asked.request)
            gathered.encoding = encoding = await encoder.encode(asked.prompt, earlier)
        except Unavailable as unavailable:
            self._metrics.signal_errors.labels("encoder", unavailable.reason).inc()
            gathered.without("triton", unavailable.reason)
            return
        finally:
            if called:
                gathered.asked["encoder"] = started, perf_counter()
        gathered.domains = self._scorer.score(encoding.embedding, encoding.heads[DOMAIN_HEAD])

    def _domain_evaluations(self, scores: DomainScores | None, ms: float) -> Found:
        names = [signal.name for signal in self._domains]
        return {(domain.TYPE, name): _in_domain(name, scores, ms) if scores else UNKNOWN for name in names}

    # --- MCP -------------------------------------------------------------------------------------------------------

    async def _classify(self, asked: Asked, gathered: Gathered) -> None:
        assert self._classifier is not None and self._mcp is not None
        started, called = perf_counter(), self._classifier.failure is None
        passed = {
            name: asked.headers[name]
            for name in self._mcp.forward_headers
            if name in asked.headers and believed(self._identity, name)
        }
        try:
            classified = await self._classifier.classify(asked.prompt, passed)
        except McpUnavailable as unavailable:
            self._metrics.signal_errors.labels(mcp.TYPE, unavailable.reason).inc()
            gathered.without("mcp", unavailable.reason)
            gathered.evaluations |= {(mcp.TYPE, name): UNKNOWN for name in self._mcp_names}
            return
        finally:
            if called:
                gathered.asked["mcp"] = started, perf_counter()
        ms = (perf_counter() - started) * 1000
        gathered.classified, threshold = classified, self._mcp.threshold
        for name in self._mcp_names:
            value = classified.confidence if name == classified.category else 0.0
            matched = name == classified.category and value >= threshold
            gathered.evaluations[mcp.TYPE, name] = Evaluation(matched, value, threshold, ms)

    # --- what prompts are compared with ----------------------------------------------------------------------------

    def _check_topics(self) -> None:
        new = [signal.name for signal in self._unlabelled()]
        if self._encoder is not None and new and not self._topics.label_embeddings:
            names = ", ".join(new)
            raise BundleError(f"the signal bundle cannot score domains that its head does not know: {names}")

    def _unlabelled(self) -> list[DomainSignal]:
        names = [signal.name for signal in self._domains]
        new = set(unlabelled(names, self._labels, self._members(), self._judging.fallback_category))
        return [signal for signal in self._domains if signal.name in new]

    def _members(self) -> dict[str, tuple[str, ...]]:
        return {signal.name: signal.mmlu_categories for signal in self._domains}

    def _topic_texts(self, signal: DomainSignal) -> list[str]:
        """What stands for a topic, without what the encoder cannot read."""
        if self._encoder is None or not self._encoder.trunk.latin_only:
            return label_texts(signal.name, signal.description, signal.examples)
        said = [signal.description] if signal.description else []
        unread = [text for text in (signal.name, *said, *signal.examples) if language_signal.foreign_script(text)]
        if unread:
            fields = {"domain": signal.name, "trunk": self._encoder.trunk.name}
            log.warning("the encoder does not read the script of a domain's words", extra={"fields": fields})
        description = None if signal.description in unread else signal.description
        return label_texts(signal.name, description, [text for text in signal.examples if text not in unread])

    def _texts(self) -> Iterable[str]:
        for texts in self._topics_texts.values():
            yield from texts
        for rule in self._embeddings:
            yield from rule.candidates
        for graded in self._complexity:
            yield from complexity.texts(graded)

    def _compare(self, encodings: dict[str, Encoding]) -> None:
        prototypes: dict[str, Prototype] = {}
        for name, texts in self._topics_texts.items():
            if all(text in encodings for text in texts):
                found = [encodings[text] for text in texts]
                prototypes[name] = Prototype.of(
                    [each.embedding for each in found], [each.heads[DOMAIN_HEAD] for each in found]
                )
        self._scorer = DomainScorer(
            [signal.name for signal in self._domains],
            self._labels,
            self._topics,
            prototypes,
            self._judging.threshold,
            members=self._members(),
            fallback=self._judging.fallback_category,
            multi_label=self._judging.multi_label,
        )
        vectors = {text: np.asarray(each.embedding) for text, each in encodings.items()}
        self._embedding_rules = embedding.EmbeddingRules(self._embeddings, vectors)
        self._complexity_rules = complexity.ComplexityRules(self._complexity, vectors)


def _has_semantic_cache(config: Config) -> bool:
    caches = (
        plugin.configuration
        for decision in config.routing.decisions
        for plugin in decision.plugins
        if isinstance(plugin, SemanticCachePlugin)
    )
    return any(cache.enabled and cache.mode != "exact" for cache in caches)


class _Used:
    """The names that the decisions' rules refer to, by type."""

    def __init__(self, config: Config) -> None:
        self.names: dict[str, set[str]] = {}
        for decision in config.routing.decisions:
            for rule in leaves(decision):
                self.names.setdefault(str(rule.type), set()).add(str(rule.name))
        self.types = frozenset(self.names)
        self.names = {**{kind: set() for kind in (authz.TYPE, mcp.TYPE, complexity.TYPE)}, **self.names}

    def of(self, kind: str, declared: Iterable[Declared]) -> list[Declared]:
        names = self.names.get(kind, set())
        return [signal for signal in declared if getattr(signal, "name", None) in names]

    def has_level(self, name: str) -> bool:
        return any(f"{name}:{level}" in self.names[complexity.TYPE] for level in complexity.LEVELS)


def _in_domain(name: str, scores: DomainScores, ms: float) -> Evaluation:
    if name == scores.winner:
        return Evaluation(True, scores.confidence, scores.threshold, ms)
    if name in scores.probabilities:
        return Evaluation(name in scores.matched, scores.probabilities[name], scores.threshold, ms)
    return UNKNOWN
