"""The trunks of a bundle, and which of them a configuration's names mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path

import numpy as np

from triton_router.config.services import InferenceSettings
from triton_router.errors import BundleError
from triton_router.inference.bundle import Bundle
from triton_router.inference.encoder import Encoder, Vector
from triton_router.inference.prototypes import Prototypes
from triton_router.telemetry import Metrics

log = logging.getLogger(__name__)


class Encoders:
    """One :class:`Encoder` a trunk, each with what it encoded before. Use it inside one event loop.

    Iterating gives those that read texts; ``watched`` are all trunks of the bundle, ``pairs`` those that read pairs.
    ``directory`` is where encoded texts are kept; ``None`` keeps them in memory.

    Raises:
        BundleError: no trunk of the bundle gives an embedding.
    """

    def __init__(
        self,
        bundle: Bundle,
        tokenizers: dict[str, bytes],
        settings: InferenceSettings,
        metrics: Metrics,
        directory: Path | None = None,
    ) -> None:
        if not any(trunk.embedding for trunk in bundle.trunks):
            raise BundleError("the signal bundle has no trunk that gives an embedding")
        self.watched = tuple(
            Encoder(trunk, tokenizers[trunk.name], bundle.checksum, settings, metrics) for trunk in bundle.trunks
        )
        self.pairs = tuple(each for each in self.watched if each.trunk.pairs)
        self._all = [each for each in self.watched if not each.trunk.pairs]
        self._bundle = tuple(self._all)
        self._prototypes = {
            encoder.trunk.name: Prototypes(encoder, bundle.checksum, directory) for encoder in self._all
        }

    def __iter__(self) -> Iterator[Encoder]:
        return iter(self._all)

    @property
    def failures(self) -> dict[str, str]:
        """Why trunks are not used at the moment, by name."""
        return {each.trunk.name: each.failure for each in self.watched if each.failure}

    @property
    def dimension(self) -> int:
        """Numbers of the longest embedding."""
        return max(each.trunk.embedding.dimension for each in self._all if each.trunk.embedding)

    def lengthened(self, embedding: Vector) -> Vector:
        """With zeros behind it, as long as the longest: a store that replicas share keeps vectors of one length."""
        longer = np.zeros(self.dimension, np.float32)
        longer[: len(embedding)] = embedding
        return longer

    @property
    def languages(self) -> frozenset[str]:
        """Those that some trunk of the bundle was measured on; empty where none says which."""
        return frozenset(code for encoder in self._bundle for code in encoder.trunk.languages)

    def reading(self, language: str | None) -> Encoders:
        """Those to ask about texts in a language; ``None``: in one that is not known for sure.

        A trunk that lists no languages reads all. Of the others those that list this one, in their order; where none
        does or the language is not known, those that list most.
        """
        listing = [each for each in self._all if language is not None and language in each.trunk.languages]
        most = max((len(each.trunk.languages) for each in self._all), default=0)
        chosen = listing or [each for each in self._all if len(each.trunk.languages) == most]
        among = copy(self)
        among._all = [each for each in self._all if each in chosen or not each.trunk.languages]
        return among

    def prototypes(self, encoder: Encoder) -> Prototypes:
        """The texts that ``encoder`` has encoded."""
        return self._prototypes[encoder.trunk.name]

    def embedder(self, name: str | None = None) -> Encoder:
        """The trunk called ``name``, if it gives an embedding, else the first that gives one."""
        return _by_name([each for each in self._all if each.trunk.embedding], name, "embedding")

    def judge(self, head: str, name: str | None = None) -> Encoder | None:
        """The trunk called ``name``, if it has ``head``, else the first that has it."""
        having = [each for each in self._all if each.trunk.head(head)]
        return _by_name(having, name, head) if having else None

    def readers(self, head: str, name: str | None = None) -> Encoders:
        """Likewise all of the bundle that have it with the same labels, to choose by a text's language.

        Only the trunk called ``name``, if it has the head.
        """
        among = copy(self)
        among._all = [each for each in self._bundle if each.trunk.head(head)]
        if among._all:
            first = _by_name(among._all, name, head)
            reference = first.trunk.head(head)
            assert reference is not None
            same = [
                each for each in among._all if (other := each.trunk.head(head)) and other.labels == reference.labels
            ]
            among._all = [first] if name is not None else same
        return among


def _by_name(having: Sequence[Encoder], name: str | None, purpose: str) -> Encoder:
    if name is None:
        return having[0]
    for encoder in having:
        if encoder.trunk.answers_to(name):
            return encoder
    fields = {"name": name, "purpose": purpose, "used": having[0].trunk.name}
    log.warning("the signal bundle has no such model; another is used", extra={"fields": fields})
    return having[0]
