"""A vocabulary of Unigram pieces in `tokenizer.json`, as the `tokenizer.model` that `sentencepiece` reads.

The ids are the same. `sentencepiece` loads 250,000 pieces in half of the time and a sixth of the memory.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from triton_router.protobuf import messages

# Of Google's `sentencepiece_model.proto`, where Unigram and these names of special pieces are the defaults.
_message = messages(
    "triton_router.pieces",
    """
message ModelProto {
  repeated SentencePiece pieces = 1
  NormalizerSpec normalizer_spec = 3
}
message SentencePiece {
  string piece = 1
  float score = 2
  int32 type = 3
}
message NormalizerSpec {
  bytes precompiled_charsmap = 2
}
""",
)
BEFORE, BEHIND, UNKNOWN = "<s>", "</s>", "<unk>"
_TYPES = {"normal": 1, "unknown": 2, "control": 3}
# What `sentencepiece` does by itself: one space for several, and one before the first word.
_SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}


def converted(document: Mapping[str, Any]) -> bytes | None:
    """The file's content; ``None`` where `sentencepiece` would not give the ids of this `tokenizer.json`.

    Two things differ, and are better so: white space at the end of a text has no token, and a special token's name in
    a text is text.
    """
    if not _is_like(document):
        return None
    model = document["model"]
    special = {token["content"] for token in document["added_tokens"]} - {UNKNOWN}
    proto = _message("ModelProto")()
    for piece, score in model["vocab"]:
        kind = "unknown" if piece == UNKNOWN else "control" if piece in special else "normal"
        proto.pieces.add(piece=piece, score=score, type=_TYPES[kind])
    charsmap = document["normalizer"]["normalizers"][0]["precompiled_charsmap"]
    proto.normalizer_spec.precompiled_charsmap = base64.b64decode(charsmap)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _is_like(document: Mapping[str, Any]) -> bool:
    model, spaces = document["model"], document.get("pre_tokenizer") or {}
    if model["type"] != "Unigram" or model.get("byte_fallback") or model["vocab"][model["unk_id"]][0] != UNKNOWN:
        return False
    match (document.get("normalizer") or {}).get("normalizers"):
        case [{"type": "Precompiled"}, collapsed] if collapsed == _SPACES:
            pass
        case _:
            return False
    prefixed = spaces.get("add_prefix_space") or spaces.get("prepend_scheme") == "always"
    around = [part.get("SpecialToken", {}).get("id") for part in (document.get("post_processor") or {})["single"]]
    return spaces.get("type") == "Metaspace" and bool(prefixed) and around == [BEFORE, None, BEHIND]
