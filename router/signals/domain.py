"""Domain signals: which of the declared topics a prompt is about. One wins, or none.

A topic that the classifier's head knows keeps the head's probability. Any other topic is scored against the head's best
guess by three features, weighted as fitted on topics that were not the ones it will meet (``export/topics.py``):

- likeness: cosine of prompt and topic name, after the mean and the main axis of ordinary prompts are taken out (they
  say "this is a prompt" rather than what it is about);
- rival: the prompt's largest cosine to a name of the head's own labels;
- affinity: the head's posterior of the prompt, weighted by its posterior of the topic's own name.

A label of the head that nobody declared leaves its probability to the declared topics whose names mean much the same
("medical" inherits from "health"), as far as they do; the rest counts against every declared domain.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triton_router.config.plain import SIGNALS, at, names
from triton_router.config.report import Report, nearest
from triton_router.config.signals import DomainSignal
from triton_router.errors import BundleError
from triton_router.inference.bundle import TopicParameters as TopicParameters
from triton_router.inference.bundle import Trunk
from triton_router.inference.language import identify
from triton_router.signals.contract import (
    ENCODER,
    EncodedTexts,
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)

log = logging.getLogger(__name__)

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]

HEAD = "domain"
OTHER = "other"
# What tables call the domain that takes the rest. The first of these that is declared is read as the head's `other`.
FALLBACKS = (OTHER, "general", "miscellaneous", "misc")
# Below this no topic is taken to be meant; chosen on training prompts, see docs/topics.md.
DEFAULT_THRESHOLD = 0.25
# Keeps the logarithm of the affinity finite where the head sees nothing in common.
AFFINITY_FLOOR = 0.01
# Share of an undeclared label that a topic inherits: a logistic curve over the cosine of their names, half at MIDDLE.
# The slope is the fit to whether names mean the same, the middle is chosen on training prompts; see docs/topics.md.
KINSHIP_SLOPE = 18.0
KINSHIP_MIDDLE = 0.47

_TEXTS = (
    "{}",
    "a question about {}",
    "help with {}",
    "I need advice on {}",
    "How does {} work?",
    "What are the basics of {}?",
)


def label_texts(name: str, description: str | None = None, examples: Sequence[str] = ()) -> list[str]:
    """The texts whose embeddings stand for a topic: embed each once, and make a :class:`Prototype` of them."""
    spoken = normalised(name)
    texts = [text.format(spoken) for text in _TEXTS]
    return [*texts, *([f"{spoken}: {description}", description] if description else []), *examples]


def unlabelled(
    declared: Sequence[str], labels: Sequence[str], members: Mapping[str, Sequence[str]], fallback: str | None = None
) -> list[str]:
    """The declared domains that no label of the head stands for: those that need a :class:`Prototype`."""
    covered = {normalised(label) for label in labels}
    spoken = _spoken(declared, fallback)
    return [
        name
        for name in declared
        if spoken[name] not in covered and not any(normalised(member) in covered for member in members.get(name, ()))
    ]


def _spoken(declared: Sequence[str], fallback: str | None) -> dict[str, str]:
    """What each domain is to the head: its name in words, or `other` for the one that takes the rest."""
    spoken = {name: normalised(name) for name in declared}
    if fallback is None:
        fallback = next((name for word in FALLBACKS for name in declared if spoken[name] == word), None)
    if fallback in spoken:
        spoken[fallback] = OTHER
    return spoken


def normalised(name: str) -> str:
    """A topic's name as words: ``Computer_Science`` and ``computer-science`` are ``computer science``."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


@dataclass(frozen=True, slots=True)
class Prototype:
    """A topic as the encoder sees its name: ``embedding`` FP32 [dimension], ``affinity`` FP32 [labels]."""

    embedding: Vector
    affinity: Vector

    @classmethod
    def of(cls, embeddings: Sequence[Vector], posteriors: Sequence[Vector]) -> Prototype:
        """From the encodings of :func:`label_texts`."""
        return cls(_unit(np.mean(embeddings, axis=0)), np.mean(posteriors, axis=0))


@dataclass(frozen=True, slots=True)
class DomainScores:
    """``probabilities`` over the declared domains that could be scored, in declared order; ``winner`` of them.

    ``matched`` are the domains that hold: the winner, and with several allowed every other over the threshold.
    """

    winner: str | None
    confidence: float
    probabilities: dict[str, float]
    threshold: float
    matched: frozenset[str] = frozenset()


class DomainScorer:
    """Scores a fixed list of declared domains. Pure; docs/topics.md has the time it takes.

    ``members`` are labels of the head that belong to a domain beside its own name. ``fallback`` names the domain that
    takes the rest, if it is not called so (``FALLBACKS``). With ``multi_label`` every domain over the threshold holds.
    A domain that is neither made of labels of the head nor in ``prototypes`` cannot be scored and is left out.
    """

    def __init__(
        self,
        declared: Sequence[str],
        labels: Sequence[str],
        parameters: TopicParameters,
        prototypes: Mapping[str, Prototype],
        threshold: float = DEFAULT_THRESHOLD,
        *,
        members: Mapping[str, Sequence[str]] | None = None,
        fallback: str | None = None,
        multi_label: bool = False,
    ) -> None:
        members = members or {}
        position = {normalised(label): index for index, label in enumerate(labels)}
        spoken = _spoken(declared, fallback)
        self._fallback = next((name for name, word in spoken.items() if word == OTHER), None)
        self._indices = {
            name: sorted({position[each] for each in words if each in position})
            for name, word in spoken.items()
            if (words := [word, *map(normalised, members.get(name, ()))]) and any(each in position for each in words)
        }
        self._membership = np.zeros((len(self._indices), len(labels)), np.float32)
        for row, indices in enumerate(self._indices.values()):
            self._membership[row, indices] = 1.0
        self._new = [name for name in unlabelled(declared, labels, members, fallback) if name in prototypes]
        scored = {*self._new, *self._indices}
        self._order = [name for name in spoken if name in scored]
        self._threshold = threshold
        self._multi_label = multi_label
        self._unclaimed = np.ones(len(labels), np.float32)
        self._unclaimed[[index for indices in self._indices.values() for index in indices]] = 0.0
        if self._new:
            if not parameters.label_embeddings:
                raise ValueError("the bundle has no parameters for topics that its head does not know")
            self._contrast = _Contrast(parameters, [prototypes[name] for name in self._new])
            self._inherited = self._contrast.kinship() * self._unclaimed
            if OTHER in position:  # no topic, so nothing means the same
                self._inherited[:, position[OTHER]] = 0.0
            self._inherited /= np.maximum(self._inherited.sum(axis=0), 1.0)
            self._unclaimed -= self._inherited.sum(axis=0)

    def score(self, embedding: Vector, probabilities: Vector) -> DomainScores:
        """``embedding`` FP32 [dimension] of unit length, ``probabilities`` FP32 [labels] of the head.

        The probability of labels that nobody declared counts against the declared ones.
        """
        weights = dict(zip(self._indices, (self._membership @ probabilities).tolist(), strict=True))
        total = float(probabilities.sum())
        if self._new:
            odds = self._contrast.odds(embedding, probabilities)
            total += float(odds.sum())
            weights.update(zip(self._new, (odds + self._inherited @ probabilities).tolist(), strict=True))
        scored = {name: weights[name] / total for name in self._order}
        return self._decided(scored, float((self._unclaimed * probabilities).max(initial=0.0)) / total)

    def nothing_said(self) -> DomainScores:
        """The scores of a prompt without words: about nothing, so the fallback if it is declared."""
        return self._decided(dict.fromkeys(self._order, 0.0), 0.0)

    def _decided(self, scored: dict[str, float], undeclared: float) -> DomainScores:
        """``undeclared``: the probability of the likeliest label that nobody declared."""
        winner = max(scored, key=scored.__getitem__, default=None)
        best = scored[winner] if winner is not None else 0.0
        if winner is not None and best >= max(self._threshold, undeclared):
            return DomainScores(winner, best, scored, self._threshold, self._holding(scored, winner))
        if self._fallback is None:
            return DomainScores(None, 0.0, scored, self._threshold)
        rivals = max((value for name, value in scored.items() if name != self._fallback), default=0.0)
        return DomainScores(self._fallback, 1.0 - rivals, scored, self._threshold, frozenset({self._fallback}))

    def _holding(self, scored: dict[str, float], winner: str) -> frozenset[str]:
        if not self._multi_label:
            return frozenset({winner})
        return frozenset(name for name, value in scored.items() if value >= self._threshold)


class _Contrast:
    """Odds of new topics against the head's best guess."""

    def __init__(self, parameters: TopicParameters, prototypes: Sequence[Prototype]) -> None:
        self._mean = np.asarray(parameters.mean, np.float32)
        self._axis = np.asarray(parameters.axis, np.float32)
        self._labels = np.asarray(parameters.label_embeddings, np.float32)
        self._weights = parameters.weights
        self._bias = parameters.bias
        self._names = np.stack([prototype.embedding for prototype in prototypes])
        self._topics = np.stack([self.centred(name) for name in self._names])
        self._affinity = np.stack([prototype.affinity for prototype in prototypes])

    def centred(self, embedding: Vector) -> Vector:
        """``embedding`` without what all prompts share, of unit length."""
        rest = embedding - self._mean
        return _unit(rest - (rest @ self._axis) * self._axis)

    def kinship(self) -> Matrix:
        """[topics, labels]: how much of a label a topic's name covers."""
        cosines = self._names @ self._labels.T
        covered: Matrix = 1 / (1 + np.exp(-KINSHIP_SLOPE * (cosines - KINSHIP_MIDDLE)))
        return covered

    def odds(self, embedding: Vector, probabilities: Vector) -> Vector:
        likeness = self._topics @ self.centred(embedding)
        rival = (self._labels @ embedding).max()
        affinity = np.log(self._affinity @ probabilities + AFFINITY_FLOOR)
        first, second, third = self._weights
        odds: Vector = np.exp(first * likeness + second * rival + third * affinity + self._bias)
        return odds


def _unit(vector: Any) -> Vector:
    scaled: Vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return scaled


class Domains(SignalKind[DomainSignal]):
    """Scores all declared domains, used or not: they compete, so each has a say in who wins.

    Raises:
        BundleError: the bundle cannot score a domain that its head does not know.
    """

    SETTINGS = DomainSignal

    def __init__(self, signals: Sequence[DomainSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        self._judging = setup.config.global_.model_catalog.modules.classifier.domain
        self._parameters = setup.topics
        judge = setup.judge(HEAD, self._judging.model_id)
        head = judge.trunk.head(HEAD) if judge else None
        self._labels = head.labels if head else ()
        self._members = {signal.name: signal.mmlu_categories for signal in signals}
        fallback = self._judging.fallback_category
        new = unlabelled([signal.name for signal in signals], self._labels, self._members, fallback)
        if judge is not None and new and not setup.topics.label_embeddings:
            raise BundleError(f"the signal bundle cannot score domains that its head does not know: {', '.join(new)}")
        trunks = [each.trunk for each in (setup.embedder(), judge) if each is not None]
        languages = setup.encoders.languages if setup.encoders else frozenset()
        self._texts = {signal.name: _readable(signal, trunks, languages) for signal in signals if signal.name in new}
        # A topic without a label of the head is compared by the embedding too.
        self.needs = Needs(
            embedding=bool(self._texts),
            heads={HEAD: self._judging.model_id},
            texts=tuple(text for texts in self._texts.values() for text in texts),
        )
        self.prepare(EncodedTexts())

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        where = (*DomainSignal.MODULE, "fallback_category")
        fallback, declared = at(data, *where), names(data, *SIGNALS, DomainSignal.LIST)
        if isinstance(fallback, str) and fallback not in declared:
            message = f"no domain named `{fallback}`, so no domain matches if none reaches the threshold"
            report.warning(where, message, nearest(fallback, declared))

    def prepare(self, texts: EncodedTexts) -> None:
        posteriors = texts.heads.get(HEAD, {})
        prototypes = {
            name: Prototype.of([texts.embeddings[text] for text in sources], [posteriors[text] for text in sources])
            for name, sources in self._texts.items()
            if all(text in texts.embeddings and text in posteriors for text in sources)
        }
        self._scorer = DomainScorer(
            [signal.name for signal in self.signals],
            self._labels,
            self._parameters,
            prototypes,
            self._judging.threshold,
            members=self._members,
            fallback=self._judging.fallback_category,
            multi_label=self._judging.multi_label,
        )

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        results.domains = self._scores(query, results)
        if results.domains is None:
            return {}
        scores, ms, of = results.domains, results.took(ENCODER), DomainSignal.TYPE
        evaluations = {
            (of, name): Evaluation(name in scores.matched, value, scores.threshold, ms)
            for name, value in scores.probabilities.items()
        }
        if scores.winner is not None:
            evaluations[of, scores.winner] = Evaluation(True, scores.confidence, scores.threshold, ms)
        return evaluations

    def _scores(self, query: SignalInput, results: SignalResults) -> DomainScores | None:
        if not query.text().strip():
            return self._scorer.nothing_said()
        probabilities, encoding = results.heads.get(HEAD), results.encoding
        if probabilities is None or (encoding is None and self._texts):
            return None
        # Domains that the head knows need no embedding.
        return self._scorer.score(encoding.embedding if encoding else np.empty(0, np.float32), probabilities)


def _readable(signal: DomainSignal, trunks: Sequence[Trunk], languages: Collection[str]) -> list[str]:
    """What stands for a topic, without what one of these trunks does not read. Its name always does.

    ``languages`` are the languages of the whole bundle: what is in one of them is read by another trunk.
    """
    description, examples = signal.description, list(signal.examples)
    written = [*([description] if description else []), *examples] if any(trunk.languages for trunk in trunks) else []
    unread = {text for text in written if not all(trunk.reads(identify(text)) for trunk in trunks)}
    if lost := sorted({str(identify(text)) for text in unread} - set(languages)):
        fields = {"domain": signal.name, "languages": lost}
        log.warning("no encoder of the bundle reads the language of a domain's words", extra={"fields": fields})
    description = None if description in unread else description
    return label_texts(signal.name, description, [text for text in examples if text not in unread])
