"""One trunk on Triton: text in, embedding and head probabilities out, in one call.

Triton's readiness says little (a model whose process has died stays "ready"), so the encoder trusts only answers: a
failure opens a breaker, requests then go on at once without model-backed signals, and a probe with a real inference
closes it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from time import perf_counter
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from triton_router.config.services import InferenceSettings
from triton_router.errors import Unavailable
from triton_router.http2.client import CallFailed, GrpcChannel
from triton_router.inference import kserve
from triton_router.inference.background import Background
from triton_router.inference.bundle import SAME, Head, Trunk
from triton_router.inference.judged import Judged
from triton_router.inference.limit import Limit
from triton_router.inference.remembered import Remembered
from triton_router.inference.windows import Batch, Cut, Windows
from triton_router.telemetry import Metrics, RateLimitedLog

log = logging.getLogger(__name__)

Vector = NDArray[np.float32]

GPU_DEADLINE = 0.2
CPU_DEADLINE = 1.0
# A slow answer may be one bad moment; so many in a row are a state.
TIMEOUTS_IN_A_ROW = 3
# Rows of one call for a long conversation, so that it fits every profile and does not hold up others for long.
PASSAGES_IN_A_CALL = 8
# How many probe intervals pass between checks that a healthy Triton still serves the same bundle.
INTERVALS_BETWEEN_CHECKS = 5

# Characters of what Triton says that are logged and shown.
DETAIL = 300

_REASONS = {"DEADLINE_EXCEEDED": "deadline", "UNAVAILABLE": "unreachable", "NOT_FOUND": "no_model"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """``embedding`` FP32 [dimension], unit length; ``heads`` FP32 [labels] probabilities by head name.

    A trunk without an embedding gives one of dimension 0. Of the texts that were encoded in the same call ``beside``
    holds the embeddings, ``heads_beside`` FP32 [texts, labels] by head. ``tokens`` FP32 [tokens, labels] of each window
    by the name of a head that judges tokens.
    """

    embedding: Vector
    heads: dict[str, Vector]
    windows: int
    ms: float
    beside: tuple[Vector, ...] = ()
    heads_beside: dict[str, Vector] = field(default_factory=dict)
    tokens: dict[str, tuple[Vector, ...]] = field(default_factory=dict)
    trunk: str = ""


class Encoder:
    """A client of one trunk. Create and use it inside one event loop; :meth:`run` keeps watch until cancelled.

    It has many attributes and methods, as the breaker's state, the limit and the connection change together.
    """

    def __init__(
        self, trunk: Trunk, tokenizer: bytes, checksum: str, settings: InferenceSettings, metrics: Metrics
    ) -> None:
        self.trunk = trunk
        self._checksum = checksum
        self._settings = settings
        self._metrics = metrics
        self._windows = Windows(trunk, tokenizer)
        # A name with several addresses (a headless Service) is several Tritons: calls go round all of them.
        self._channel = GrpcChannel(settings.endpoint)
        self._model_infer = self._channel.unary("/inference.GRPCInferenceService/ModelInfer")
        self._model_config = self._channel.unary("/inference.GRPCInferenceService/ModelConfig")
        self._described = lru_cache(256)(self._describe)
        self._deadline = settings.deadline_ms / 1000 if settings.deadline_ms else CPU_DEADLINE
        self._failure: str | None = "starting"
        self._timeouts = 0
        self._limit = Limit(settings.max_in_flight, settings.tolerated_slowdown if settings.adaptive_limit else None)
        self._limit_shown = metrics.encoder_limit.labels(trunk.name)
        self._limit_shown.set(self._limit.calls)
        # Read where metrics are read: it changes twice a call.
        metrics.encoder_in_flight.labels(trunk.name).set_function(lambda: self._limit.in_flight)
        self._too_many = RateLimitedLog(log, "too many calls to the encoder; requests go on without")
        self._background = Background()
        self._judged: Judged[dict[str, Vector]] = Judged()
        # Texts in one window that are encoded at the moment, from when the first text was to be judged.
        self._encoding: dict[str, asyncio.Future[None]] | None = None
        self._wake = asyncio.Event()
        self._remembered: Remembered | None = None
        self._detail = ""
        metrics.encoder_up.labels(trunk.name).set(0)

    @property
    def failure(self) -> str | None:
        """Why the encoder is not used at the moment; ``None`` while it is."""
        return self._failure

    @property
    def detail(self) -> str:
        """What Triton or the connection said when it failed last; empty while it is used."""
        return self._detail if self._failure is not None else ""

    @property
    def checksum(self) -> str:
        """The bundle's, which Triton must serve too."""
        return self._checksum

    @property
    def deadline(self) -> float:
        """Seconds that a call may take."""
        return self._deadline

    def remember(self) -> None:
        """Ask Triton about each text once: for configurations that are compared."""
        self._remembered = self._remembered or Remembered()

    async def encode(
        self, text: str, beside: Sequence[str] = (), cut: Cut | None = None, *, background: bool = False
    ) -> Encoding:
        """Encode ``text`` in one call; windows of a long text are pooled (mean, embedding again of unit length).

        With ``cut`` the windows that say what is wanted count most. Of each text ``beside`` it the first window rides
        in the same call. A ``background`` call waits for others of its kind, and moves neither breaker nor limit.

        Raises:
            Unavailable: the breaker is open, too many calls are in flight, or the call failed.
        """
        self._refuse_if_down(background=background)
        started = perf_counter()
        weights: Sequence[float] | None = None
        if cut is None:
            rows = self._windows.rows(text)
        else:
            rows, weights = self._windows.weighed(text, cut)
        if len(rows) > 1:
            self._metrics.windowed.inc()
        batch = self._windows.pad([*rows, *(self._windows.rows(other)[0] for other in beside)])
        call = self._infer_batch(batch, background=background)
        outputs = await (call if len(rows) > 1 else self._judged_with(text, call))
        return self._pooled(outputs, batch, len(rows), (perf_counter() - started) * 1000, weights)

    async def _judged_with(self, text: str, call: Awaitable[dict[str, Vector]]) -> dict[str, Vector]:
        """The outputs of ``call``, whose first row judges ``text`` for :meth:`judge_each` too."""
        if self._encoding is None or text in self._encoding:
            return await call
        done = self._encoding[text] = asyncio.get_running_loop().create_future()
        try:
            outputs = await call
            self._judged.put(text, {head.name: outputs[head.output][0].copy() for head in self._judging_heads})
            return outputs
        finally:
            del self._encoding[text]
            done.set_result(None)

    @property
    def _judging_heads(self) -> list[Head]:
        return [head for head in self.trunk.heads if not head.per_token]

    def _refuse_if_down(self, *, background: bool = False) -> None:
        if self._failure is not None:
            raise Unavailable(self._failure)
        if not background and self._limit.full:
            self._too_many.warn(trunk=self.trunk.name, limit=self._limit.calls)
            raise Unavailable("overload")

    async def _infer_batch(self, batch: Batch, *, background: bool) -> dict[str, Vector]:
        infer = partial(self._infer_now, background=background)
        return await (self._remembered.run(batch, infer) if self._remembered is not None else infer(batch))

    async def _infer_now(self, batch: Batch, *, background: bool) -> dict[str, Vector]:
        if background:
            return await self._background.run(partial(self._infer, batch))
        outputs = await self._infer_within_limit(batch)
        self._timeouts = 0
        return outputs

    async def _infer_within_limit(self, batch: Batch) -> dict[str, Vector]:
        began, took = perf_counter(), None
        self._limit.enter()
        try:
            outputs = await self._infer(batch)
            took = perf_counter() - began
            return outputs
        except Unavailable as unavailable:
            if unavailable.reason == "deadline":
                took = perf_counter() - began
            self._failed(unavailable)
            raise
        finally:
            # What was refused or given up may have been quick, and says nothing of how long calls take.
            self._limit.leave(batch.shape, took)
            self._limit_shown.set(self._limit.calls)

    async def encode_each(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode several short texts, for preparation. Does not move the breaker.

        Raises:
            Unavailable: a call failed.
        """
        encodings: list[Encoding] = []
        for text in texts:
            # Alone: in int8 a batch's neighbours move an embedding, and these are compared with for long.
            batch = self._windows.pad(self._windows.rows(text)[:1])
            encodings.append(self._pooled(await self._infer(batch), batch, 1, 0.0))
        return encodings

    async def judge_each(self, texts: Sequence[str], *, background: bool = False) -> dict[str, Vector]:
        """What each head says of each text, FP32 [texts, labels]; of a text in windows the most probable by label.

        See :meth:`encode` for ``background``.

        Raises:
            Unavailable: the breaker is open, too many calls are in flight, or a call failed.
        """
        if self._encoding is None:
            self._encoding = {}
        encoding = [self._encoding[text] for text in dict.fromkeys(texts) if text in self._encoding]
        await self._judge([text for text in texts if text not in self._encoding], background=background)
        if encoding:
            await asyncio.wait(encoding)
            await self._judge(texts, background=background)
        judged = [self._judged.get(text) or {} for text in texts]
        return {
            head.name: np.asarray([each[head.name] for each in judged], np.float32).reshape(
                len(texts), len(head.labels)
            )
            for head in self._judging_heads
        }

    def has_judged(self, text: str) -> bool:
        """Whether :meth:`judge_each` needs no call for ``text``."""
        return self._judged.get(text) is not None

    async def _judge(self, texts: Sequence[str], *, background: bool) -> None:
        """Judge those of ``texts`` that are not judged yet."""
        texts = [text for text in dict.fromkeys(texts) if self._judged.get(text) is None]
        if not texts:
            return
        self._refuse_if_down(background=background)
        windows = [self._windows.rows(text) for text in texts]
        rows = [row for each in windows for row in each]
        outputs = []
        for start in range(0, len(rows), PASSAGES_IN_A_CALL):
            part = self._windows.pad(rows[start : start + PASSAGES_IN_A_CALL])
            outputs.append(await self._infer_batch(part, background=background))
        values = {
            head.name: np.concatenate([output[head.output] for output in outputs]) for head in self._judging_heads
        }
        end = 0
        for text, each in zip(texts, windows, strict=True):
            start, end = end, end + len(each)
            self._judged.put(text, {name: rows[start:end].max(axis=0) for name, rows in values.items()})

    async def tag(
        self, texts: Sequence[str], head: str, *, background: bool = False
    ) -> list[list[tuple[list[tuple[int, int]], Vector]]]:
        """What ``head`` says of each token of each text, window by window: [start, end) characters of the tokens, and
        FP32 [tokens, labels]. See :meth:`encode` for ``background``.

        Raises:
            Unavailable: the breaker is open, too many calls are in flight, or a call failed.
        """
        self._refuse_if_down(background=background)
        described = self.trunk.head(head)
        assert described is not None and described.per_token
        windows = [self._windows.placed(text) for text in texts]
        rows = [row for each in windows for row, _ in each]
        tagged: list[Vector] = []
        for start in range(0, len(rows), PASSAGES_IN_A_CALL):
            part = rows[start : start + PASSAGES_IN_A_CALL]
            batch = self._windows.pad(part)
            output = (await self._infer_batch(batch, background=background))[described.output]
            # Without the special tokens before and behind.
            tagged += [values[1 : len(row) - 1] for row, values in zip(part, output, strict=True)]
        rest = iter(tagged)
        return [[(places, next(rest)) for _, places in each] for each in windows]

    async def judge_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """How probable it is that the texts of each pair ask the same; 0 for pairs over ``max_tokens``.

        In one call, which reads each pair in both orders: their mean is surer than either. Only of a trunk that reads
        pairs, and for half as many as its batch holds.

        Raises:
            Unavailable: the breaker is open, too many calls are in flight, or the call failed.
        """
        self._refuse_if_down()
        rows = [self._windows.pair(*order) for pair in pairs for order in (pair, pair[::-1])]
        fitting = [row for row in rows if row is not None]
        if not fitting:
            return [0.0] * len(pairs)
        (head,) = self.trunk.heads
        outputs = await self._infer_batch(self._windows.pad(fitting), background=False)
        same = iter(outputs[head.output][:, head.labels.index(SAME)].reshape(-1, 2).mean(axis=1).tolist())
        return [0.0 if row is None else next(same) for row in rows[::2]]

    async def run(self, on_ready: Callable[[], Awaitable[None]]) -> None:
        """Probe until cancelled. ``on_ready`` runs each time the encoder comes up, before requests use it."""
        interval = self._settings.probe_interval_ms / 1000
        healthy_intervals = 0
        while True:
            if self._failure is not None or healthy_intervals >= INTERVALS_BETWEEN_CHECKS:
                healthy_intervals = 0
                await self._probe_or_log(on_ready)
            self._wake.clear()
            try:
                async with asyncio.timeout(interval):
                    await self._wake.wait()
            except TimeoutError:
                healthy_intervals += 1
            else:
                # Just failed: look again after a whole interval, not at once.
                await asyncio.sleep(interval)

    async def _probe_or_log(self, on_ready: Callable[[], Awaitable[None]]) -> None:
        try:
            await self.probe(on_ready)
        except Exception:
            # Whatever it was, the watch must go on: without it the encoder would never be used again.
            log.exception("probe failed")
            self._open(Unavailable("error"))

    async def close(self) -> None:
        await self._channel.close()

    async def probe(self, on_ready: Callable[[], Awaitable[None]]) -> None:
        """Ask Triton once, with a real inference if the encoder is down, and take it into use or out of it."""
        try:
            await self._check_model()
            if self._failure is None:
                return
            await self._infer(self._windows.batch("probe"))
            await on_ready()
        except Unavailable as unavailable:
            self._open(unavailable)
        else:
            log.info(
                "encoder is up", extra={"fields": {"trunk": self.trunk.name, "deadline_ms": self._deadline * 1000}}
            )
            self._failure, self._timeouts = None, 0
            self._limit.forget()
            self._metrics.encoder_up.labels(self.trunk.name).set(1)

    async def _check_model(self) -> None:
        """Compare the served model's checksum with the bundle's, and take the deadline that its platform allows."""
        try:
            request = kserve.ModelConfigRequest(name=self.trunk.model)
            message = await self._model_config(request.SerializeToString(), CPU_DEADLINE)
            response: Any = kserve.ModelConfigResponse.FromString(message)
        except (CallFailed, DecodeError) as error:
            raise _unavailable(error) from error
        served = response.config.parameters["bundle_checksum"].string_value
        if served != self._checksum:
            raise Unavailable("bundle", f"Triton serves bundle {served[:12] or '(none)'}, not {self._checksum[:12]}")
        if self._settings.deadline_ms is None:
            on_gpu = "tensorrt" in (response.config.platform + response.config.backend)
            self._deadline = GPU_DEADLINE if on_gpu else CPU_DEADLINE

    async def _infer(self, batch: Batch) -> dict[str, Vector]:
        described, expected = self._described(batch.shape)
        tensors = kserve.ModelInferRequest(raw_input_contents=[batch.ids.tobytes(), batch.mask.tobytes()])
        try:
            message = await self._model_infer(described + tensors.SerializeToString(), self._deadline)
            response: Any = kserve.ModelInferResponse.FromString(message)
        except (CallFailed, DecodeError) as error:
            raise _unavailable(error) from error
        contents = response.raw_output_contents
        answered = {tensor.name: (tensor, raw) for tensor, raw in zip(response.outputs, contents, strict=False)}
        outputs = {name: _tensor(name, answered.get(name), shape) for name, shape in expected}
        if not np.isfinite(np.frombuffer(b"".join(contents), np.float32)).all():
            name = next(name for name, output in outputs.items() if not np.isfinite(output).all())
            raise Unavailable("not_finite", f"output {name} holds NaN or infinity")
        return outputs

    def _describe(self, shape: tuple[int, int]) -> tuple[bytes, list[tuple[str, tuple[int, ...]]]]:
        """A call's message for a batch of ``shape``, less its tensors, and the outputs that it brings.

        Serialized messages may be joined: their fields add up.
        """
        rows, tokens = shape
        request = kserve.ModelInferRequest(model_name=self.trunk.model)
        for name in (self.trunk.inputs.ids, self.trunk.inputs.mask):
            request.inputs.add(name=name, datatype="INT64", shape=shape)
        outputs: list[tuple[str, tuple[int, ...]]] = []
        if self.trunk.embedding:
            outputs.append((self.trunk.embedding.output, (rows, self.trunk.embedding.dimension)))
        for head in self.trunk.heads:
            labels = len(head.labels)
            outputs.append((head.output, (rows, tokens, labels) if head.per_token else (rows, labels)))
        for name, _ in outputs:
            request.outputs.add(name=name)
        return request.SerializeToString(), outputs

    def _pooled(
        self,
        outputs: dict[str, Vector],
        batch: Batch,
        windows: int,
        ms: float,
        weights: Sequence[float] | None = None,
    ) -> Encoding:
        """The first ``windows`` rows as one text, the rows after them as texts of their own."""
        output = self.trunk.embedding
        embeddings = outputs[output.output] if output else np.empty((batch.windows, 0), np.float32)
        if windows == 1:
            embedding = embeddings[0]
        else:
            embedding = np.average(embeddings[:windows], axis=0, weights=weights).astype(np.float32)
            embedding /= max(float(np.linalg.norm(embedding)), 1e-12)
        heads, beside, tokens = {}, {}, {}
        for head in self.trunk.heads:
            rows = outputs[head.output][:windows]
            if head.per_token:
                lengths = batch.mask[:windows].sum(axis=1)
                tokens[head.name] = tuple(row[:length] for row, length in zip(rows, lengths, strict=True))
            else:
                beside[head.name] = outputs[head.output][windows:]
                heads[head.name] = (
                    rows[0] if windows == 1 else np.average(rows, axis=0, weights=weights).astype(np.float32)
                )
        others = tuple(embeddings[windows:])
        return Encoding(embedding, heads, windows, ms, others, beside, tokens, self.trunk.name)

    def _failed(self, unavailable: Unavailable) -> None:
        if unavailable.reason == "deadline":
            self._timeouts += 1
            if self._timeouts < TIMEOUTS_IN_A_ROW:
                return
        self._open(unavailable)

    def _open(self, unavailable: Unavailable) -> None:
        if self._failure is None:
            self._wake.set()
        if self._failure != unavailable.reason:
            fields = {"trunk": self.trunk.name, "reason": unavailable.reason, "detail": str(unavailable)[:DETAIL]}
            log.warning("encoder is not used", extra={"fields": fields})
        self._failure, self._detail = unavailable.reason, unavailable.detail[:DETAIL]
        self._metrics.encoder_up.labels(self.trunk.name).set(0)


def _unavailable(error: CallFailed | DecodeError) -> Unavailable:
    if isinstance(error, DecodeError):
        return Unavailable("error", "Triton's response is no message of its protocol")
    return Unavailable(_REASONS.get(error.code, "error"), error.details)


def _tensor(name: str, answered: tuple[Any, bytes] | None, shape: tuple[int, ...]) -> Vector:
    """An output as the bundle describes it."""
    if answered is None:
        raise Unavailable("shape", f"output {name} is nothing, not FP32 {shape}")
    described, raw = answered
    if described.datatype != "FP32" or tuple(described.shape) != shape or len(raw) != 4 * math.prod(shape):
        actual = f"{described.datatype} {tuple(described.shape)}"
        raise Unavailable("shape", f"output {name} is {actual}, not FP32 {shape}")
    output: Vector = np.frombuffer(raw, np.float32).reshape(shape)
    return output
