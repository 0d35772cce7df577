"""The encoder on CPU: Triton's python backend around ONNX Runtime. On GPUs the TensorRT plan serves instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

INPUTS = ("input_ids", "attention_mask")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.outputs = [output["name"] for output in config["output"]]
        options = ort.SessionOptions()
        # Instances run beside each other; more threads inside one would fight over the same cores.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        # The fused kernel of the runtime's 1.31 takes a fifth of the whole forward; sum and norm apart are vectorised.
        self.session = ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """One forward for all requests: the batcher only joins requests of one length."""
        rows = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS] for request in requests
        ]
        try:
            outputs = self._run([np.concatenate(column) for column in zip(*rows, strict=True)])
        except Exception as error:
            if len(requests) == 1:
                failure = pb_utils.TritonError(f"encoder failed: {error}")
                return [pb_utils.InferenceResponse(error=failure)]
            # One request with impossible ids must not fail those that it happened to be batched with.
            return [response for request in requests for response in self.execute([request])]
        ends = np.cumsum([row[0].shape[0] for row in rows])[:-1]
        split = [np.split(output, ends) for output in outputs]
        return [
            self._response(request, parts) for request, parts in zip(requests, zip(*split, strict=True), strict=True)
        ]

    def _run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return self.session.run(self.outputs, dict(zip(INPUTS, inputs, strict=True)))

    def _response(self, request: Any, parts: tuple[np.ndarray, ...]) -> Any:
        wanted = set(request.requested_output_names())
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(part))
            for name, part in zip(self.outputs, parts, strict=True)
            if name in wanted
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)
