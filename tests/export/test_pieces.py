"""A vocabulary of pieces in `tokenizer.json` is served as `sentencepiece`'s, with the same ids."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer

from export import manifest, pieces, repository
from export.bundle import ROOT
from export.encoder import read_rows
from export.exporter import Exporter, Paths
from triton_router.inference.tokens import PieceTokenizer, TextTokenizer, load_tokenizer

PROMPTS = sorted((ROOT / "export" / "prompts").glob("*.jsonl"))
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


# Letters of Korean that stand alone: `sentencepiece` joins them to syllables, `tokenizers` does not.
ALONE = re.compile("[\u3131-\u318e]")


def texts() -> list[str]:
    """Without the white space at their ends, which has no token in a `tokenizer.model`."""
    rows = [row for path in PROMPTS if path.stem != "conversations" for row in read_rows(path)]
    return [row.text.strip() for row in rows if not ALONE.search(row.text)]


def differing(served: TextTokenizer, published: Tokenizer) -> list[str]:
    """Texts with other ids; which of two cuts of the same pieces is taken, in another order, hangs on rounding."""
    expected = published.encode_batch(texts(), add_special_tokens=False)
    pairs = [(text, served.ids(text), each.ids) for text, each in zip(texts(), expected, strict=True)]
    reordered = [text for text, ours, theirs in pairs if ours != theirs and sorted(ours) == sorted(theirs)]
    assert len(reordered) < len(pairs) / 1000
    return [text for text, ours, theirs in pairs if sorted(ours) != sorted(theirs)]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """A `tokenizer.json` as XLM-RoBERTa's, of 3,000 pieces that were found in the prompts here."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts()[::3]), model_writer=model, vocab_size=3000, hard_vocab_limit=False,
        character_coverage=0.99, bos_id=0, pad_id=1, eos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    proto = pieces._message("ModelProto").FromString(model.getvalue())
    tokens = [{"id": number, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
               "normalized": False, "special": True} for number, name in enumerate(SPECIAL)]  # fmt: skip
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    around = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "</s>", "type_id": 0}}]  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": charsmap},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
        "post_processor": {"type": "TemplateProcessing", "single": around, "pair": [*around, *around],
                           "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]}
                                              for number, name in enumerate(SPECIAL)}},
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [[each.piece, each.score] for each in proto.pieces]},
    }  # fmt: skip


def test_the_ids_are_those_of_the_published_file(document: dict[str, Any]) -> None:
    published = json.dumps(document).encode()
    served = load_tokenizer(repository.served_tokenizer(published))
    assert isinstance(served, PieceTokenizer)
    assert (served.size, served.around) == (len(document["model"]["vocab"]), [0, 2])
    assert differing(served, Tokenizer.from_buffer(published)) == []


def test_special_tokens_in_a_text_are_text(document: dict[str, Any]) -> None:
    served = load_tokenizer(repository.served_tokenizer(json.dumps(document).encode()))
    assert not {0, 1, 2} & set(served.ids("</s> and <s> and <pad>"))
    assert served.ids("a text \n") == served.ids("a text")


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("model", {"byte_fallback": True}),
        ("model", {"type": "BPE"}),
        ("normalizer", {"normalizers": [{"type": "NFKC"}]}),
        ("pre_tokenizer", {"add_prefix_space": False}),
        ("pre_tokenizer", {"type": "WhitespaceSplit"}),
        ("post_processor", {"single": [{"Sequence": {"id": "A", "type_id": 0}}]}),
    ],
)
def test_a_tokenizer_that_works_otherwise_stays_what_it_is(
    document: dict[str, Any], part: str, changes: dict[str, Any]
) -> None:
    other = document | {part: document[part] | changes}
    assert json.loads(repository.served_tokenizer(json.dumps(other).encode())) == other


@pytest.mark.slow
def test_the_published_tokenizer_of_e5_gives_the_same_ids(tmp_path: Path) -> None:
    """Fetches 95 MB where they are not in `build/`."""
    (model,) = manifest.load(ROOT / "export" / "models.yaml").bundle("accurate")
    exporter = Exporter(Paths(tmp_path, ROOT / "build" / "export"), [model])
    served = load_tokenizer(exporter.tokenizer(model))
    published = Tokenizer.from_file(str(exporter.source(model).tokenizer))
    assert isinstance(served, PieceTokenizer) and served.size == 250_002
    assert len(texts()) > 8000
    assert differing(served, published) == []
