"""What backends say of their load, what passing answers tell, and both as metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from test_answers import EVENTS, STREAM
from test_discovery import HOSTILE, backend, body

from triton_router.config import Config
from triton_router.config.observability import UsageSettings
from triton_router.dialects.chat import ChatAnswer
from triton_router.load import LoadPoll, VitalsMetrics, load_in
from triton_router.telemetry import Metrics
from triton_router.usage import UsageObserver
from triton_router.vitals import Field, Flight, Vitals

VLLM = b"""# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 1.0
vllm:num_requests_running{engine="0",model_name="m"} 8.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:num_preemptions_total 7.0
"""


def test_the_load_of_all_engines_is_read() -> None:
    assert load_in(VLLM) == (4, 0.75)
    assert load_in(VLLM.replace(b"kv_cache_usage", b"gpu_cache_usage")) == (4, 0.75)
    assert load_in(b"process_cpu_seconds_total 1\n") is None


def configuration(**endpoints: list[str]) -> Config:
    models: list[dict[str, Any]] = [
        {"name": name, "backend_refs": [{"endpoint": each} for each in listed]} for name, listed in endpoints.items()
    ]
    decision = {
        "name": "d",
        "algorithm": {"type": "multi_factor"},
        "modelRefs": [{"model": name} for name in endpoints],
    }
    router = {"load": {"enabled": True, "timeout_seconds": 0.5}}
    return Config.model_validate(
        {"providers": {"models": models}, "routing": {"decisions": [decision]}, "global": {"router": router}}
    )


@pytest.mark.parametrize("kind", HOSTILE)
async def test_one_hostile_backend_does_not_keep_the_others_from_being_known(kind: str) -> None:
    vitals = Vitals()
    async with backend(HOSTILE[kind]) as odd, backend(body(VLLM)) as good, backend(body(VLLM)) as other:
        config = configuration(base=[odd], good=[good, other])
        await LoadPoll(lambda: config, vitals).ask()
    polled = vitals.polled("good")
    assert polled is not None and (polled[Field.QUEUE], polled[Field.KV_USAGE]) == (8, 0.75)
    assert vitals.polled("base") is None


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """The observer of one answer, a stream where it says so."""

    def __init__(self, *, stream: bool, **settings: bool) -> None:
        self.vitals, self.clock = Vitals(), Clock()
        self.observer = UsageObserver(
            Metrics(), "m", UsageSettings(**settings), answer_type=ChatAnswer,
            start_flight=lambda: Flight(self.vitals, "m", None, streams=stream, clock=self.clock),
        )  # fmt: skip

    def seconds(self, measure: Field) -> float | None:
        estimate = self.vitals.estimate("m", measure, self.clock.now)
        return round(estimate.mean, 6) if estimate else None


def test_a_stream_that_is_read_tells_when_its_first_text_came() -> None:
    watched = Watched(stream=True, streams=True)
    observer, clock = watched.observer, watched.clock
    observer.on_sent()
    assert watched.vitals.total("m", Field.IN_FLIGHT) == 1
    clock.now += 0.5
    assert observer.on_headers(200, EVENTS)
    clock.now += 0.5
    cut = STREAM.index("世".encode())
    observer.on_body(STREAM[:cut])
    observer.on_body(STREAM[cut:])
    observer.on_complete()
    observer.on_end()
    assert watched.seconds(Field.FIRST) == 1.0
    assert watched.seconds(Field.TOKEN) is not None
    assert watched.vitals.total("m", Field.IN_FLIGHT) == 0


def test_of_a_stream_that_is_not_read_the_headers_tell() -> None:
    watched = Watched(stream=True)
    watched.observer.on_sent()
    watched.clock.now += 0.5
    assert not watched.observer.on_headers(200, EVENTS)
    assert watched.seconds(Field.FIRST) == 0.5
    assert watched.vitals.total("m", Field.IN_FLIGHT) == 1
    watched.observer.on_end()
    assert watched.vitals.total("m", Field.IN_FLIGHT) == 0


def test_an_answer_in_one_piece_tells_how_long_it_took_and_each_token() -> None:
    watched = Watched(stream=False)
    watched.observer.on_sent()
    watched.clock.now += 2.0
    assert watched.observer.on_headers(200, {"content-type": "application/json"})
    answer = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 4}}
    watched.observer.on_body(json.dumps(answer).encode())
    watched.observer.on_complete()
    watched.observer.on_end()
    assert watched.seconds(Field.WHOLE) == 2.0
    assert watched.seconds(Field.TOKEN) is not None


@pytest.mark.parametrize("status", [429, 500])
def test_an_error_says_nothing_of_how_fast_a_model_is(status: int) -> None:
    watched = Watched(stream=True, streams=True)
    watched.observer.on_sent()
    watched.observer.on_headers(status, {"content-type": "application/json"})
    watched.observer.on_end()
    assert watched.seconds(Field.FIRST) is None
    assert watched.vitals.total("m", Field.IN_FLIGHT) == 0


def test_advice_that_nobody_follows_is_not_in_flight() -> None:
    watched = Watched(stream=False)
    watched.observer.on_end()
    assert watched.vitals.total("m", Field.IN_FLIGHT) == 0


def test_vitals_are_metrics() -> None:
    vitals, registry = Vitals(), CollectorRegistry()
    config = configuration(base=["127.0.0.1:1"])
    registry.register(VitalsMetrics(lambda: config, vitals))
    Flight(vitals, "base", None, streams=False)
    vitals.row("base").observe(Field.FIRST, 0.5, Clock().now)
    assert registry.get_sample_value("router_model_in_flight", {"model": "base"}) == 1
    assert registry.get_sample_value("router_model_queue", {"model": "base"}) is None
    vitals.row("base")[Field.POLLED_AT] = 1.0
    assert registry.get_sample_value("router_model_queue", {"model": "base"}) == 0
