"""The encoder on CPU: Triton's python backend around ONNX Runtime. On GPUs the TensorRT plan serves instead."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

# More hardly speed up one forward of an encoder of this size; more instances are for more cores.
MOST_THREADS = 8
INPUTS = ("input_ids", "attention_mask")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.outputs = [output["name"] for output in config["output"]]
        options = ort.SessionOptions()
        instances = sum(int(group["count"]) for group in config["instance_group"])
        options.intra_op_num_threads = min(max(1, _cores() // instances), MOST_THREADS)
        options.inter_op_num_threads = 1
        # Threads that wait in a loop for more to do take the cores from whoever asks and answers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
        """Without the padding that no row needs: it is for plans of fixed lengths, and costs as much as tokens."""
        length = inputs[0].shape[1]
        used = np.flatnonzero(inputs[1].any(axis=0))
        needed = int(used[-1]) + 1 if used.size else length
        outputs = self.session.run(
            self.outputs, {name: given[:, :needed] for name, given in zip(INPUTS, inputs, strict=True)}
        )
        return [
            np.pad(output, ((0, 0), (0, length - needed), (0, 0))) if output.ndim == 3 else output for output in outputs
        ]

    def _response(self, request: Any, parts: tuple[np.ndarray, ...]) -> Any:
        wanted = set(request.requested_output_names())
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(part))
            for name, part in zip(self.outputs, parts, strict=True)
            if name in wanted
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _cores() -> int:
    """Cores that this process may use at once: those it is bound to, or fewer by its control group's quota."""
    bound = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(bound, round(int(quota) / int(period))))
    except (OSError, ValueError):
        # No control groups of version 2, or no quota: "max".
        return bound
