"""What Triton says of its models: differences between two looks, on every Triton behind the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from triton_router.inference.statistics import Statistics

MS = 1_000_000


class Counting(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A Triton that has counted what the test says."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, int]] = {}
        self.refuses: str | None = None

    def count(self, model: str, requests: int, *, queue_ms: int, compute_ms: int, rows: int, batches: int) -> None:
        counted = self.models.setdefault(model, dict.fromkeys(("requests", "queue", "compute", "rows", "batches"), 0))
        more = {"requests": requests, "queue": requests * queue_ms * MS, "compute": requests * compute_ms * MS,
                "rows": rows, "batches": batches}  # fmt: skip
        for name, value in more.items():
            counted[name] += value

    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.refuses is not None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, self.refuses)
        response = service_pb2.ModelStatisticsResponse()
        for name, counted in self.models.items():
            model = response.model_stats.add(
                name=name, version="1", inference_count=counted["rows"], execution_count=counted["batches"]
            )
            stats = model.inference_stats
            stats.success.count = stats.queue.count = stats.compute_infer.count = counted["requests"]
            stats.queue.ns, stats.compute_infer.ns = counted["queue"], counted["compute"]
        return response


@asynccontextmanager
async def listening(triton: Counting, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"{address.partition(':')[0]}:{port}"
    finally:
        await server.stop(0)


async def test_figures_are_those_between_two_looks() -> None:
    triton, now = Counting(), [0.0]
    triton.count("minilm", 1000, queue_ms=70, compute_ms=9, rows=1000, batches=1000)
    triton.count("another", 5, queue_ms=1, compute_ms=1, rows=5, batches=5)
    async with listening(triton) as address:
        statistics = Statistics(address, {"minilm"}, lambda: now[0])
        await statistics.look()
        assert (statistics.loads, statistics.failures) == ({}, {})
        triton.count("minilm", 100, queue_ms=20, compute_ms=3, rows=120, batches=40)
        now[0] = 4.0
        await statistics.look()
        (load,) = statistics.loads.values()
        assert (load.requests_per_second, load.failed, load.batch) == (25.0, 0, 3.0)
        assert (load.queue_ms, load.compute_ms) == (20.0, 3.0)
        # 25 requests a second that wait 20 ms each: on average half a request waits.
        assert load.waiting == 0.5
        now[0] = 8.0
        await statistics.look()
        assert statistics.loads["minilm"].waiting == 0
        assert statistics.loads["minilm"].queue_ms is None


async def test_a_triton_that_was_started_again_counts_from_the_beginning() -> None:
    triton, now = Counting(), [0.0]
    triton.count("minilm", 1000, queue_ms=70, compute_ms=9, rows=1000, batches=1000)
    async with listening(triton) as address:
        statistics = Statistics(address, {"minilm"}, lambda: now[0])
        await statistics.look()
        triton.models.clear()
        triton.count("minilm", 10, queue_ms=1, compute_ms=1, rows=10, batches=10)
        now[0] = 1.0
        await statistics.look()
        assert statistics.loads["minilm"].requests_per_second == 10.0


async def test_one_that_does_not_answer_is_named_with_its_reason() -> None:
    triton = Counting()
    async with listening(triton) as address:
        statistics = Statistics(address, {"minilm"})
        await statistics.look()
        triton.refuses = "the server is going down"
        await statistics.look()
        assert statistics.failures == {address: "the server is going down"}
        assert statistics.loads == {}
    await statistics.look()
    assert list(statistics.failures) == [address]
    nowhere = Statistics("no-such-host.invalid:8001", {"minilm"})
    await nowhere.look()
    assert list(nowhere.failures) == ["no-such-host.invalid:8001"]


async def test_all_tritons_behind_a_name_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tritons, now = [Counting(), Counting()], [0.0]
    for triton in tritons:
        triton.count("minilm", 1, queue_ms=1, compute_ms=1, rows=1, batches=1)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(listening(tritons[0]))
        port = int(first.rpartition(":")[2])
        await stack.enter_async_context(listening(tritons[1], f"127.0.0.2:{port}"))
        hosts = ["127.0.0.1", "127.0.0.2"]

        async def resolved(*_: Any, **__: Any) -> list[Any]:
            return [(None, None, None, "", (host, port)) for host in hosts]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        statistics = Statistics(f"triton:{port}", {"minilm"}, lambda: now[0])
        await statistics.look()
        tritons[0].count("minilm", 30, queue_ms=10, compute_ms=1, rows=30, batches=30)
        tritons[1].count("minilm", 10, queue_ms=50, compute_ms=1, rows=10, batches=10)
        now[0] = 10.0
        await statistics.look()
        load = statistics.loads["minilm"]
        assert (load.requests_per_second, load.queue_ms, load.waiting) == (4.0, 20.0, pytest.approx(0.08))
