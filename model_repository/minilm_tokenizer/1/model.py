"""Text to token ids, padded to the smallest bucket that fits: the first step of the ensemble.

Only for clients that have no tokenizer. It reads the first `max_tokens` of a text and no more; the router tokenizes by
itself, and reads long texts in windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        self.buckets = [int(bucket) for bucket in parameters["buckets"]["string_value"].split(",")]
        self.pad_id = int(parameters["pad_id"]["string_value"])
        self.prefix = parameters.get("prefix", {"string_value": ""})["string_value"]
        directory = Path(args["model_repository"]) / args["model_version"]
        self.encode = _encoder(directory, int(parameters["max_tokens"]["string_value"]))
        # Tokenizing takes time in proportion to the text, however little of it is kept.
        self.max_characters = int(parameters["max_characters"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        try:
            texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()[:, 0]
            decoded = [text.decode(errors="replace")[: self.max_characters] for text in texts]
            rows = [self.encode(self.prefix + text) for text in decoded]
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"tokenizer failed: {error}"))
        longest = max(map(len, rows))
        length = next(bucket for bucket in self.buckets if bucket >= longest)
        ids = np.full((len(rows), length), self.pad_id, np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        tensors = [pb_utils.Tensor("input_ids", ids), pb_utils.Tensor("attention_mask", mask)]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _encoder(directory: Path, most: int) -> Callable[[str], list[int]]:
    """A text to at most so many ids, special tokens among them, by the library that the file belongs to."""
    file = directory / "tokenizer.model"
    if file.is_file():
        from sentencepiece import SentencePieceProcessor

        pieces = SentencePieceProcessor(model_file=str(file))
        return lambda text: [pieces.bos_id(), *pieces.encode(text)[: most - 2], pieces.eos_id()]
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    return lambda text: tokenizer.encode(text).ids
