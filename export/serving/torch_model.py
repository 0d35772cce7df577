"""Stand-in for a TensorRT plan: the program that PyTorch exported, with a CUDA graph for each batch size and length.

Without a GPU it runs the program as it is, so that it can be tried anywhere. A batch of a size without a graph of its
own is filled up to the next that has one; a length without one runs as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

INPUTS = ("input_ids", "attention_mask")
WARM_RUNS = 3
Floats = NDArray[np.float32]


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.outputs = [output["name"] for output in config["output"]]
        on_gpu = args["model_instance_kind"] == "GPU"
        self.device = torch.device(f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu")
        path = Path(args["model_repository"]) / args["model_version"] / "model.pt2"
        program = torch.export.load(path)
        if on_gpu:
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, str(self.device))
        self.forward = program.module()
        self.graphs: dict[tuple[int, int], Any] = {}
        if on_gpu:
            self.forward = torch.compile(self.forward, dynamic=True)
            for shape in config["parameters"]["shapes"]["string_value"].split(","):
                batch, length = map(int, shape.split("x"))
                self.graphs[batch, length] = self._captured(batch, length)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One forward for all requests: the batcher only joins requests of one length."""
        rows = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in INPUTS] for request in requests
        ]
        try:
            outputs = self._run(*(np.concatenate(column) for column in zip(*rows, strict=True)))
        except Exception as error:
            failure = pb_utils.TritonError(f"encoder failed: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        ends = np.cumsum([row[0].shape[0] for row in rows])[:-1]
        split = [np.split(output, ends) for output in outputs]
        return [
            self._response(request, parts) for request, parts in zip(requests, zip(*split, strict=True), strict=True)
        ]

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> list[Floats]:
        batch, length = ids.shape
        size = min((b for b, n in self.graphs if n == length and b >= batch), default=None)
        with torch.inference_mode():
            if size is None:
                outputs = self.forward(torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device))
                return [output.cpu().numpy() for output in outputs]
            graph, inputs, outputs = self.graphs[size, length]
            for tensor, value in zip(inputs, (ids, mask), strict=True):
                tensor[:batch].copy_(torch.from_numpy(value), non_blocking=True)
            graph.replay()
            return [output[:batch].cpu().numpy() for output in outputs]

    def _captured(self, batch: int, length: int) -> tuple[Any, list[torch.Tensor], list[torch.Tensor]]:
        inputs = [torch.ones((batch, length), dtype=torch.int64, device=self.device) for _ in INPUTS]
        with torch.inference_mode():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_RUNS):
                    self.forward(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = self.forward(*inputs)
        return graph, inputs, list(outputs)

    def _response(self, request: Any, parts: tuple[Floats, ...]) -> Any:
        requested = set(request.requested_output_names())
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(part))
            for name, part in zip(self.outputs, parts, strict=True)
            if name in requested
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)
