"""Texts are encoded once: per process, and per bundle on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from triton_router.errors import Unavailable
from triton_router.inference import Encoding, Prototypes


class Counting:
    """An encoder that counts what it is asked; each text has the embedding of its length."""

    trunk = SimpleNamespace(name="trunk", heads=(SimpleNamespace(name="domain", per_token=False),))

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.down = False

    async def encode_each(self, texts: Sequence[str]) -> list[Encoding]:
        if self.down:
            raise Unavailable("unreachable")
        self.texts += texts
        return [
            Encoding(np.full(4, len(text), np.float32), {"domain": np.full(2, 0.5, np.float32)}, 1, 0.0)
            for text in texts
        ]


async def test_only_new_texts_are_asked_for(tmp_path: Path) -> None:
    encoder = Counting()
    prototypes = Prototypes(encoder, "a" * 64, tmp_path)  # type: ignore[arg-type]
    await prototypes.encode(["one", "two"])
    await prototypes.encode(["two", "three", "three"])
    assert encoder.texts == ["one", "two", "three"]


async def test_another_process_finds_them_on_disk_and_another_bundle_does_not(tmp_path: Path) -> None:
    encoder = Counting()
    await Prototypes(encoder, "a" * 64, tmp_path).encode(["héllo", "two"])  # type: ignore[arg-type]
    encoder.down = True
    encodings = await Prototypes(encoder, "a" * 64, tmp_path).encode(["héllo"])  # type: ignore[arg-type]
    assert encodings["héllo"].embedding.tolist() == [5.0] * 4
    assert encodings["héllo"].heads["domain"].tolist() == [0.5, 0.5]
    with pytest.raises(Unavailable):
        await Prototypes(encoder, "b" * 64, tmp_path).encode(["héllo"])  # type: ignore[arg-type]


async def test_what_nobody_uses_any_more_is_forgotten(tmp_path: Path) -> None:
    encoder = Counting()
    prototypes = Prototypes(encoder, "a" * 64, tmp_path)  # type: ignore[arg-type]
    for number in range(50):
        await prototypes.encode([f"text {number}"])
    (file,) = tmp_path.glob("*.npz")
    assert file.stat().st_size < 4096


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04broken"])
async def test_a_spoilt_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"prototypes-{'a' * 16}.npz").write_bytes(content)
    encoder = Counting()
    assert len(await Prototypes(encoder, "a" * 64, tmp_path).encode(["one"])) == 1  # type: ignore[arg-type]


async def test_a_place_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    encoder = Counting()
    prototypes = Prototypes(encoder, "a" * 64, tmp_path / "file")  # type: ignore[arg-type]
    assert len(await prototypes.encode(["one"])) == 1
