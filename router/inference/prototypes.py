"""Encodings of the texts that a configuration compares prompts with: each asked for once, and kept on disk.

They belong to a signal bundle; another bundle has a file of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from triton_router.inference.encoder import Encoder, Encoding

log = logging.getLogger(__name__)


class Prototypes:
    """The encodings of texts, from memory, then ``directory`` (``None`` keeps them in memory only), then Triton."""

    def __init__(self, encoder: Encoder, checksum: str, directory: Path | None = None) -> None:
        self._encoder = encoder
        self._file = directory / f"prototypes-{checksum[:16]}-{encoder.trunk.name}.npz" if directory else None
        self._encodings: dict[str, Encoding] = self._read()

    async def encode(self, texts: Iterable[str]) -> dict[str, Encoding]:
        """The encoding of each text; those of no other text are kept.

        Raises:
            Unavailable: a text is new, and the encoder could not answer.
        """
        unique = dict.fromkeys(texts)
        new = [text for text in unique if text not in self._encodings]
        # Another process may have asked for them since.
        stored_texts = self._read() if new else {}
        missing = [text for text in new if text not in stored_texts]
        fresh_texts = dict(zip(missing, await self._encoder.encode_each(missing), strict=True)) if missing else {}
        encodings = self._encodings | stored_texts | fresh_texts
        stale = self._encodings.keys() != unique.keys()
        self._encodings = {text: encodings[text] for text in unique}
        if missing or stale:
            self._write()
        return dict(self._encodings)

    def _read(self) -> dict[str, Encoding]:
        if self._file is None:
            return {}
        try:
            with np.load(self._file, allow_pickle=False) as stored:
                texts = json.loads(str(stored["texts"]))
                heads = {
                    head.name: stored[f"head.{head.name}"] for head in self._encoder.trunk.heads if not head.per_token
                }
                embeddings = stored["embeddings"]
            return {
                text: Encoding(embeddings[row], {name: rows[row] for name, rows in heads.items()}, 1, 0.0)
                for row, text in enumerate(texts)
            }
        except FileNotFoundError:
            return {}
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, IndexError) as error:
            log.warning("prototypes on disk are not used", extra={"fields": {"reason": type(error).__name__}})
            return {}

    def _write(self) -> None:
        if self._file is None or not self._encodings:
            return
        encodings = list(self._encodings.values())
        arrays = {f"head.{name}": np.stack([each.heads[name] for each in encodings]) for name in encodings[0].heads}
        arrays["embeddings"] = np.stack([each.embedding for each in encodings])
        arrays["texts"] = np.asarray(json.dumps(list(self._encodings)))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._file.with_suffix(".new.npz")
            np.savez(fresh, allow_pickle=False, **arrays)
            fresh.replace(self._file)
        except OSError as error:
            log.warning("prototypes are not kept on disk", extra={"fields": {"reason": error.strerror}})
