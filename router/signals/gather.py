"""Evaluating all signals that the decisions of a configuration need: one call a trunk, all at once, and MCP beside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from triton_router.config import Config, leaves
from triton_router.config.schema import SemanticCachePlugin
from triton_router.config.signals import DomainSignal
from triton_router.errors import BundleError, Unavailable
from triton_router.identity import believed
from triton_router.inference import Encoder, Encoders, Encoding
from triton_router.signals import UNKNOWN, Evaluation, SignalInput, authz, complexity, domain, embedding, mcp, reask
from triton_router.signals import context as context_signal
from triton_router.signals import conversation as conversation_signal
from triton_router.signals import keyword as keyword_signal
from triton_router.signals import language as language_signal
from triton_router.signals import metadata as metadata_signal
from triton_router.signals import structure as structure_signal
from triton_router.signals.domain import DomainScorer, DomainScores, Prototype, TopicParameters, label_texts, unlabelled
from triton_router.signals.mcp import McpClassification, McpClassifier
from triton_router.telemetry import Metrics

log = logging.getLogger(__name__)

DOMAIN_HEAD = "domain"

Vector = NDArray[np.float32]

Evaluations = dict[tuple[str, str], Evaluation]
Declared = TypeVar("Declared")


@dataclass(slots=True)
class SignalResults:
    """The evaluations of one request, and what could not be asked.

    ``degraded`` names the parts that were down, ``reasons`` says why. ``classified`` is what the MCP server said.
    ``asked`` holds when the ``encoder`` (tokenising, the calls, pooling; of several trunks from the first to the last)
    and the ``mcp`` server were asked and when they were done (``perf_counter``). ``encoding`` is the embedder's,
    ``heads`` has the probabilities of every trunk that was asked.
    """

    evaluations: Evaluations
    domains: DomainScores | None = None
    encoding: Encoding | None = None
    heads: dict[str, Vector] = field(default_factory=dict)
    classified: McpClassification | None = None
    degraded: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    asked: dict[str, tuple[float, float]] = field(default_factory=dict)

    def note(self, part: str, began: float, ended: float) -> None:
        """``part`` was asked from ``began`` to ``ended``."""
        earlier = self.asked.get(part, (began, ended))
        self.asked[part] = min(began, earlier[0]), max(ended, earlier[1])

    def took(self, part: str) -> float:
        """Milliseconds that were spent on ``part``."""
        began, ended = self.asked.get(part, (0.0, 0.0))
        return (ended - began) * 1000

    def without(self, part: str, reason: str) -> None:
        """Note that ``part`` could not be asked; once is enough."""
        if part in self.degraded:
            return
        self.degraded.append(part)
        self.reasons.append(reason)


class Gatherer:
    """Holds what signals need between requests, in attributes and methods for each kind.

    Immutable but for :meth:`prepare`.
    """

    def __init__(
        self,
        config: Config,
        encoders: Encoders | None,
        topics: TopicParameters,
        metrics: Metrics,
        *,
        classifier: McpClassifier | None = None,
    ) -> None:
        signals, services = config.routing.signals, config.global_.services
        used = UsedSignals(config)
        self._encoders, self._topics, self._metrics = encoders, topics, metrics
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
        self._needs_embedding = caches_meaning(config) or bool(
            used.types & {embedding.TYPE, complexity.TYPE, reask.TYPE}
        )
        named = config.global_.stores.semantic_cache.embedding_model
        self._embedder = encoders.embedder(named) if encoders else None
        self._judge = encoders.judge(DOMAIN_HEAD, self._judging.model_id) if encoders else None
        head = self._judge.trunk.head(DOMAIN_HEAD) if self._judge else None
        self._labels = head.labels if head else ()
        self._encoded: dict[str, dict[str, Encoding]] = {}
        self._check_topics()
        self._topics_texts = {signal.name: self._topic_texts(signal) for signal in self._unlabelled()}
        # A topic without a label of the head is compared by the embedding too.
        self._needs_embedding = self._needs_embedding or (self._needs_domains and bool(self._topics_texts))
        self._compare()

    @property
    def roles_needed(self) -> bool:
        """Whether some decision asks who is calling."""
        return self._roles.needed

    @property
    def embedder(self) -> Encoder | None:
        """The trunk whose embedding is compared."""
        return self._embedder

    async def prepare(self, encoder: Encoder | None = None) -> None:
        """Encode the texts that prompts are compared with; until then those signals are unknown.

        Only those of ``encoder`` if it is given.

        Raises:
            Unavailable: an encoder could not answer; the others' texts are encoded.
        """
        if self._encoders is None:
            return
        failure: Unavailable | None = None
        for each in self._trunks(everything=True):
            if encoder is None or each is encoder:
                try:
                    self._encoded[each.trunk.name] = await self._encoders.prototypes(each).encode(self._texts(each))
                except Unavailable as unavailable:
                    failure = failure or unavailable
        self._compare()
        if failure is not None:
            raise failure

    async def gather(self, asked: SignalInput, *, everything: bool = False) -> SignalResults:
        """Evaluate every needed signal. Never fails: what cannot be asked is unknown and named.

        ``everything`` asks the encoder for the domain even if no decision needs it.
        """
        gathered = SignalResults(self._local(asked))
        judged = self._judged(asked, gathered, everything)
        if self._classifier is None:
            await judged
        else:
            await asyncio.gather(judged, self._classify(asked, gathered))
        return gathered

    # --- local signals ---------------------------------------------------------------------------------------------

    def _local(self, asked: SignalInput) -> Evaluations:
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

    async def _judged(self, asked: SignalInput, gathered: SignalResults, everything: bool) -> None:
        if not (self._needs_embedding or self._needs_domains or everything):
            return
        if not asked.prompt.strip():
            gathered.domains = self._scorer.nothing_said()
        else:
            trunks = self._trunks(everything=everything)
            if len(trunks) == 1:
                await self._encode(trunks[0], asked, gathered)
            elif trunks:
                # One call a trunk; together they take as long as the slowest.
                await asyncio.gather(*(self._encode(encoder, asked, gathered) for encoder in trunks))
            self._score(gathered)
        encoding, ms = gathered.encoding, gathered.took("encoder")
        vector = encoding.embedding if encoding else None
        if self._needs_domains or everything:
            gathered.evaluations |= self._domain_evaluations(gathered.domains, ms)
        gathered.evaluations |= self._embedding_rules.evaluate(vector, ms)
        gathered.evaluations |= self._complexity_rules.evaluate(vector, ms)
        gathered.evaluations |= self._reask.evaluate(vector, encoding.beside if encoding else None, ms)

    def _trunks(self, *, everything: bool) -> list[Encoder]:
        """Those that the needed signals ask, each once."""
        wanted = [self._embedder] if self._needs_embedding or everything else []
        if self._needs_domains or everything:
            wanted.append(self._judge)
        return list(dict.fromkeys(each for each in wanted if each is not None))

    async def _encode(self, encoder: Encoder, asked: SignalInput, gathered: SignalResults) -> None:
        if encoder.trunk.latin_only and language_signal.foreign_script(asked.prompt):
            # The trunk would answer, and the answer would mean nothing.
            gathered.without("language", "script")
            return
        if asked.hurried:
            self._metrics.signal_errors.labels("encoder", "behind").inc()
            gathered.without("triton", "behind")
            return
        embeds = encoder is self._embedder
        started, called = perf_counter(), encoder.failure is None
        try:
            encoding = await encoder.encode(asked.prompt, self._reask.earlier(asked.request) if embeds else ())
        except Unavailable as unavailable:
            self._metrics.signal_errors.labels("encoder", unavailable.reason).inc()
            gathered.without("triton", unavailable.reason)
            return
        finally:
            if called:
                gathered.note("encoder", started, perf_counter())
        if embeds:
            gathered.encoding = encoding
        if encoder is self._judge:
            gathered.heads[DOMAIN_HEAD] = encoding.heads[DOMAIN_HEAD]

    def _score(self, gathered: SignalResults) -> None:
        probabilities, encoding = gathered.heads.get(DOMAIN_HEAD), gathered.encoding
        # Domains that the head knows need no embedding.
        if probabilities is not None and (encoding is not None or not self._topics_texts):
            embedding = encoding.embedding if encoding else np.empty(0, np.float32)
            gathered.domains = self._scorer.score(embedding, probabilities)

    def _domain_evaluations(self, scores: DomainScores | None, ms: float) -> Evaluations:
        names = [signal.name for signal in self._domains]
        return {(domain.TYPE, name): _in_domain(name, scores, ms) if scores else UNKNOWN for name in names}

    # --- MCP -------------------------------------------------------------------------------------------------------

    async def _classify(self, asked: SignalInput, gathered: SignalResults) -> None:
        assert self._classifier is not None and self._mcp is not None
        started, called = perf_counter(), self._classifier.failure is None
        passed = {
            name: asked.headers[name]
            for name in self._mcp.forward_headers
            if name in asked.headers and believed(self._identity, name)
        }
        try:
            classified = await self._classifier.classify(asked.prompt, passed)
        except Unavailable as unavailable:
            self._metrics.signal_errors.labels(mcp.TYPE, unavailable.reason).inc()
            gathered.without("mcp", unavailable.reason)
            gathered.evaluations |= {(mcp.TYPE, name): UNKNOWN for name in self._mcp_names}
            return
        finally:
            if called:
                gathered.note("mcp", started, perf_counter())
        ms = (perf_counter() - started) * 1000
        gathered.classified, threshold = classified, self._mcp.threshold
        for name in self._mcp_names:
            value = classified.confidence if name == classified.category else 0.0
            matched = name == classified.category and value >= threshold
            gathered.evaluations[mcp.TYPE, name] = Evaluation(matched, value, threshold, ms)

    # --- what prompts are compared with ----------------------------------------------------------------------------

    def _check_topics(self) -> None:
        new = [signal.name for signal in self._unlabelled()]
        if self._judge is not None and new and not self._topics.label_embeddings:
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
        trunks = [each.trunk for each in (self._embedder, self._judge) if each is not None]
        latin_only = next((trunk for trunk in trunks if trunk.latin_only), None)
        if latin_only is None:
            return label_texts(signal.name, signal.description, signal.examples)
        said = [signal.description] if signal.description else []
        unread = [text for text in (signal.name, *said, *signal.examples) if language_signal.foreign_script(text)]
        if unread:
            fields = {"domain": signal.name, "trunk": latin_only.name}
            log.warning("the encoder does not read the script of a domain's words", extra={"fields": fields})
        description = None if signal.description in unread else signal.description
        return label_texts(signal.name, description, [text for text in signal.examples if text not in unread])

    def _texts(self, encoder: Encoder) -> Iterable[str]:
        """What ``encoder`` has to encode: the judge only the topics' names."""
        for texts in self._topics_texts.values():
            yield from texts
        if encoder is not self._embedder:
            return
        for rule in self._embeddings:
            yield from rule.candidates
        for graded in self._complexity:
            yield from complexity.texts(graded)

    def _compare(self) -> None:
        embedded, judged = (
            self._encoded.get(each.trunk.name, {}) if each else {} for each in (self._embedder, self._judge)
        )
        prototypes: dict[str, Prototype] = {}
        for name, texts in self._topics_texts.items():
            if all(text in embedded and text in judged for text in texts):
                prototypes[name] = Prototype.of(
                    [embedded[text].embedding for text in texts], [judged[text].heads[DOMAIN_HEAD] for text in texts]
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
        vectors = {text: np.asarray(each.embedding) for text, each in embedded.items()}
        self._embedding_rules = embedding.EmbeddingRules(self._embeddings, vectors)
        self._complexity_rules = complexity.ComplexityRules(self._complexity, vectors)


def caches_meaning(config: Config) -> bool:
    """Whether some decision's cache looks for questions that mean the same."""
    caches = (
        plugin.configuration
        for decision in config.routing.decisions
        for plugin in decision.plugins
        if isinstance(plugin, SemanticCachePlugin)
    )
    return any(cache.enabled and cache.mode != "exact" for cache in caches)


class UsedSignals:
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
