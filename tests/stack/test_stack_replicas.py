"""One of two replicas is ill: no request fails that the other one could answer before its first byte."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from local_stack import Gateway, chat, running
from replica import Replica

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def extproc_port() -> Iterator[int]:
    with running("router_by_name.py") as port:
        yield port


@pytest.fixture
def start_pair(
    start_gateway: Callable[..., Gateway], start_replica: Callable[..., Replica], extproc_port: int
) -> Callable[..., tuple[Gateway, Replica, Replica]]:
    """A gateway before an ill replica and a healthy one, with settings of the model's `reliability`."""

    def start(illness: str, **reliability: object) -> tuple[Gateway, Replica, Replica]:
        ill, well = start_replica(illness), start_replica()
        models = {"m": [ill.endpoint, well.endpoint]}
        return start_gateway(models, extproc_port=extproc_port, reliability=reliability), ill, well

    return start


def statuses(gateway: Gateway, requests: int, pause: float = 0.0, **fields: object) -> Counter[int]:
    counted: Counter[int] = Counter()
    for _ in range(requests):
        counted[gateway.client.post("/v1/chat/completions", json=chat("m", **fields)).status_code] += 1
        time.sleep(pause)
    return counted


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "illness", ["500", *(pytest.param(each, marks=SLOW) for each in ("502", "503", "reset")), "close", "429"]
)
def test_an_ill_replica_fails_no_request(
    start_pair: Callable[..., tuple[Gateway, Replica, Replica]], illness: str
) -> None:
    gateway, ill, _ = start_pair(illness, base_ejection_time=3600)
    assert statuses(gateway, 60, 0.02) == {200: 60}
    assert ill.requests
    if illness != "429":  # a full replica is not a sick one
        assert gateway.stat("cluster.model/m.outlier_detection.ejections_active") == 1
        before = ill.requests
        # Health checks are green five times a second: they do not take the ejection back.
        assert statuses(gateway, 20, 0.02) == {200: 20}
        assert ill.requests == before


def test_a_large_request_is_retried_too(start_pair: Callable[..., tuple[Gateway, Replica, Replica]]) -> None:
    gateway, ill, _ = start_pair("500", consecutive_5xx=0)
    assert statuses(gateway, 20, user="x" * 90_000) == {200: 20}
    assert ill.requests


def test_a_replica_that_hangs_before_the_first_byte(
    start_pair: Callable[..., tuple[Gateway, Replica, Replica]],
) -> None:
    gateway, ill, _ = start_pair("hang", first_byte_timeout=2, consecutive_5xx=2)
    assert statuses(gateway, 30) == {200: 30}
    assert ill.requests == 2


def test_a_full_service_says_so(
    start_gateway: Callable[..., Gateway], start_replica: Callable[..., Replica], extproc_port: int
) -> None:
    replicas = [start_replica("429"), start_replica("429")]
    gateway = start_gateway({"m": [replica.endpoint for replica in replicas]}, extproc_port=extproc_port)
    answer = gateway.client.post("/v1/chat/completions", json=chat("m"))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")


def test_an_idle_connection_is_given_up_before_the_backend_does(
    start_gateway: Callable[..., Gateway], start_replica: Callable[..., Replica], extproc_port: int
) -> None:
    replica = start_replica(keep_alive=0.5)
    settings = {"keep_alive": 0.3, "retry_count": 0}
    gateway = start_gateway({"m": [replica.endpoint]}, extproc_port=extproc_port, reliability=settings)
    assert statuses(gateway, 6, 0.5) == {200: 6}
    assert gateway.stat("cluster.model/m.upstream_cx_idle_timeout") > 3


def test_requests_that_are_wrong_eject_nobody(
    start_pair: Callable[..., tuple[Gateway, Replica, Replica]],
) -> None:
    gateway, first, second = start_pair("")
    for status in (400, 404, 422, 500):
        for _ in range(15):
            assert statuses(gateway, 1, user="poison", metadata=str(status)) == {status: 1}
            assert statuses(gateway, 1) == {200: 1}
    assert gateway.stat("cluster.model/m.outlier_detection.ejections_enforced_total") == 0
    assert first.requests and second.requests


def test_what_a_backend_has_read_is_not_sent_twice_by_choice(
    start_pair: Callable[..., tuple[Gateway, Replica, Replica]],
) -> None:
    gateway, ill, well = start_pair("500", retry_responses=False, lb_policy="round_robin", consecutive_5xx=0)
    assert statuses(gateway, 10) == {200: 5, 500: 5}
    assert ill.requests == well.requests == 5
