"""Spans over OTLP, gRPC and HTTP: what is sent again, what counts as lost, and over which connections."""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
import re
import socket
import ssl
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from authority import Authority
from collector import Collector, collecting, collecting_over_http
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from local_stack import REPOSITORY, wait_for
from packaging.requirements import Requirement

from triton_router.config.observability import TracingSettings
from triton_router.telemetry import Metrics, traces
from triton_router.telemetry.traces import Traces

KINDS = {"otlp": collecting, "otlp_http": collecting_over_http}


class Sender:
    """Traces to a collector, with what became of its spans."""

    def __init__(self, kind: str, endpoint: str, **more: Any) -> None:
        exporter = {"type": kind, "endpoint": endpoint, "insecure": True, **more}
        self.metrics = Metrics()
        self.traces = Traces(TracingSettings.model_validate({"enabled": True, "exporter": exporter}), self.metrics)

    def send(self, count: int = 1, **attributes: Any) -> None:
        trace = self.traces.begin({})
        for _ in range(count):
            trace.span("work", time.perf_counter(), time.perf_counter(), attributes)

    def counted(self) -> tuple[float, float]:
        """How many spans were sent, and lost."""
        sample = self.metrics.registry.get_sample_value
        return tuple(sample("router_trace_spans_total", {"result": each}) or 0.0 for each in ("sent", "lost"))  # type: ignore[return-value]

    def settled(self, count: int) -> tuple[float, float]:
        """The same, once so many are counted."""
        wait_for(lambda: sum(self.counted()) >= count, f"{count} spans to be counted")
        return self.counted()


@contextmanager
def sending(kind: str, endpoint: str, **more: Any) -> Iterator[Sender]:
    sender = Sender(kind, endpoint, **more)
    try:
        yield sender
    finally:
        sender.traces.close(5)


@contextmanager
def to_a_collector(kind: str) -> Iterator[tuple[Collector, Sender]]:
    with KINDS[kind]() as collector, sending(kind, f"127.0.0.1:{collector.port}") as sender:
        yield collector, sender


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.fields["detail"] for record in caplog.records if record.getMessage() == "spans are lost"]  # type: ignore[attr-defined]


# --- what is sent again --------------------------------------------------------------------------------------------

Code = grpc.StatusCode


def retry_after(seconds: float) -> dict[str, bytes]:
    """Trailers with which a collector says when to try again."""
    delay = Duration()
    delay.FromTimedelta(datetime.timedelta(seconds=seconds))
    return {"google.rpc.retryinfo-bin": RetryInfo(retry_delay=delay).SerializeToString()}


SOON, SOON_HTTP = retry_after(0.001), {"retry-after": "0"}


@pytest.mark.parametrize(("kind", "refusals", "requests"), [
    ("otlp", [(Code.UNAVAILABLE, {})], 2),
    ("otlp", [(Code.UNAVAILABLE, SOON), (Code.ABORTED, SOON)], 3),
    ("otlp", [(Code.CANCELLED, SOON), (Code.DATA_LOSS, SOON), (Code.OUT_OF_RANGE, SOON)], 4),
    ("otlp", [(Code.RESOURCE_EXHAUSTED, SOON), (Code.DEADLINE_EXCEEDED, SOON)], 3),
    ("otlp_http", [(503, {})], 2),
    ("otlp_http", [(503, SOON_HTTP), (429, SOON_HTTP)], 3),
    ("otlp_http", [(502, SOON_HTTP), (504, {"retry-after": "no number"})], 3),
    ("otlp_http", [(None, {})], 2),
])  # fmt: skip
def test_what_may_pass_is_tried_again(kind: str, refusals: list[Any], requests: int) -> None:
    with to_a_collector(kind) as (collector, sender):
        collector.refusals = list(refusals)
        sender.send(2)
        assert sender.settled(2) == (2, 0)
        assert collector.requests == requests
        assert len(collector.spans) == 2


@pytest.mark.parametrize(("kind", "refusal", "why"), [
    ("otlp", (Code.INVALID_ARGUMENT, {}), "INVALID_ARGUMENT, error details: refused"),
    ("otlp", (Code.UNAUTHENTICATED, {}), "UNAUTHENTICATED, error details: refused"),
    ("otlp_http", (400, {}), "code: 400, reason: Bad Request"),
    ("otlp_http", (500, {}), "code: 500, reason: Internal Server Error"),
    ("otlp_http", (302, {"location": "/elsewhere"}), "HTTP 302 Found"),
])  # fmt: skip
def test_what_will_not_pass_is_lost_at_once(
    kind: str, refusal: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with to_a_collector(kind) as (collector, sender):
        collector.refusals = [refusal]
        sender.send(2)
        assert sender.settled(2) == (0, 2)
        assert collector.requests == 1
        # What comes next is another matter.
        sender.send()
        assert sender.settled(3) == (1, 2)
    (complaint,) = complaints(caplog)
    assert why in complaint


MUCH_LATER = "Fri, 01 Jan 2100 00:00:00 GMT"


@pytest.mark.parametrize(("kind", "refusal"), [
    ("otlp", (Code.UNAVAILABLE, retry_after(120))), ("otlp", (Code.RESOURCE_EXHAUSTED, retry_after(120))),
    ("otlp_http", (429, {"retry-after": "120"})), ("otlp_http", (503, {"retry-after": MUCH_LATER})),
])  # fmt: skip
def test_a_batch_is_lost_whose_collector_asks_for_a_longer_pause_than_it_has(kind: str, refusal: Any) -> None:
    with to_a_collector(kind) as (collector, sender):
        collector.refusals = [refusal]
        sender.send()
        assert sender.settled(1) == (0, 1)
        assert collector.requests == 1


@pytest.mark.parametrize("kind", KINDS)
def test_trying_again_has_its_time(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traces, "SEND_WITHIN", 2.0)
    busy = {"otlp": (Code.UNAVAILABLE, {}), "otlp_http": (503, {})}[kind]
    with to_a_collector(kind) as (collector, sender):
        collector.refusals = [busy] * 50
        sender.send()
        assert sender.settled(1) == (0, 1)
        # At once and behind pauses of 1, 2 s and so on, 0.8 to 1.2 times that; a busy machine may do fewer.
        assert 1 <= collector.requests <= 2
    assert re.search("UNAVAILABLE|Service Unavailable", complaints(caplog)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_headers_reach_the_collector_and_no_log(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    refusal = {"otlp": (Code.UNKNOWN, {}), "otlp_http": (401, {})}[kind]
    with KINDS[kind]() as collector:  # type: ignore[operator]
        with sending(kind, f"127.0.0.1:{collector.port}", headers={"Authorization": "Bearer s3cret"}) as sender:
            collector.refusals = [refusal]
            sender.send()
            assert sender.settled(1) == (0, 1)
            sender.send()
            assert sender.settled(2) == (1, 1)
        assert {name.lower(): value for name, value in collector.headers.items()}["authorization"] == "Bearer s3cret"
    assert complaints(caplog) and "s3cret" not in caplog.text + str(complaints(caplog))


# --- connections ---------------------------------------------------------------------------------------------------


def test_over_http_the_connection_is_kept() -> None:
    with to_a_collector("otlp_http") as (collector, sender):
        for number in range(1, 4):
            sender.send()
            assert sender.settled(number) == (number, 0)
        assert (collector.requests, len(collector.connections)) == (3, 1)


def test_the_end_does_not_wait_for_one_that_hangs_over_http(caplog: pytest.LogCaptureFixture) -> None:
    with collecting_over_http(hanging=True) as collector:
        sender = Sender("otlp_http", f"127.0.0.1:{collector.port}")
        sender.send(4)
        wait_for(lambda: bool(collector.connections), "a request")
        sender.traces.close(0.2)
        assert not collector.open.is_set()
        assert sender.counted() == (0, 4)
    assert "timed out" not in complaints(caplog)[0]


def tls(kind: str, certificate: Path, key: Path, callers: Path) -> Any:
    """A collector's own side, which wants to know its callers too."""
    if kind == "otlp":
        pair = key.read_bytes(), certificate.read_bytes()
        return grpc.ssl_server_credentials([pair], callers.read_bytes(), require_client_auth=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=callers)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize("kind", KINDS)
def test_over_tls_by_certificates_of_ones_own(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authority, stranger = Authority(tmp_path, "authority"), Authority(tmp_path, "stranger")
    own, mine = authority.sign("collector", "localhost"), authority.sign("sender", "sender")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(mine[0]))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(mine[1]))
    # What other programs on the machine trust does not count.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger.file))
    monkeypatch.setattr(traces, "SEND_WITHIN", 3.0)
    with KINDS[kind](tls=tls(kind, *own, authority.file)) as collector:  # type: ignore[operator]
        endpoint = f"localhost:{collector.port}"
        for trusted, counted in ((authority.file, (1, 0)), (stranger.file, (0, 1)), (tmp_path / "missing", (0, 1))):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(trusted))
            with sending(kind, endpoint, insecure=False) as sender:
                sender.send()
                assert sender.settled(1) == counted
        assert len(collector.spans) == 1
    assert str(tmp_path / "missing") in complaints(caplog)[-1]


@contextmanager
def proxy(to: int) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that connects whoever asks to the port ``to``; what it was asked comes with its port."""
    heads: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def pour(source: socket.socket, into: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                into.sendall(data)
        except OSError:
            pass
        finally:
            into.close()

    def serve() -> None:
        client, _ = listening.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        heads.append(head)
        behind = socket.create_connection(("127.0.0.1", to))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=pour, args=(behind, client), daemon=True).start()
        pour(client, behind)

    threading.Thread(target=serve, daemon=True).start()
    with listening:
        yield listening.getsockname()[1], heads


def test_https_goes_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path, "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.sign("collector", "collector.invalid"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.file))
    with collecting_over_http(tls=context) as collector, proxy(collector.port) as (port, heads):
        monkeypatch.setenv("https_proxy", f"http://user:p%40ss@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "elsewhere.invalid")
        with sending("otlp_http", "collector.invalid:4318", insecure=False) as sender:
            sender.send()
            assert sender.settled(1) == (1, 0)
        assert heads[0].startswith(b"CONNECT collector.invalid:4318 HTTP/1.")
        assert b"\r\nproxy-authorization: Basic dXNlcjpwQHNz\r\n" in heads[0].replace(
            b"Proxy-Authorization", b"proxy-authorization"
        )
        # The collector has no business with it.
        assert "proxy-authorization" not in collector.headers
        assert collector.headers["path"] == "/v1/traces"


@pytest.mark.parametrize("bypassed", [False, True])
def test_http_goes_through_a_proxy_too(bypassed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting_over_http() as collector:
        host = "127.0.0.1" if bypassed else "collector.invalid"
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{1 if bypassed else collector.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1" if bypassed else "")
        with sending("otlp_http", f"{host}:{collector.port}") as sender:
            sender.send()
            assert sender.settled(1) == (1, 0)
        whole = f"http://collector.invalid:{collector.port}/v1/traces"
        assert collector.headers["path"] == ("/v1/traces" if bypassed else whole)
        assert collector.headers["Host"] == f"{host}:{collector.port}"


# --- packages ------------------------------------------------------------------------------------------------------


def needed(first: list[str]) -> set[str]:
    """All distributions that are needed, through and through; what is not installed here needs nothing more."""
    names: set[str] = set()
    queue = [(each, "") for each in first]
    while queue:
        requirement, extra = queue.pop()
        parsed = Requirement(requirement)
        name = re.sub("[-_.]+", "-", parsed.name).lower()
        if name in names or (parsed.marker is not None and not parsed.marker.evaluate({"extra": extra})):
            continue
        names.add(name)
        try:
            more = importlib.metadata.requires(parsed.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        queue += [(each, option) for each in more for option in parsed.extras or {""}]
    return names


def test_no_package_that_is_needed_overwrites_files_of_another() -> None:
    """In what order packages are unpacked is nobody's promise."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = needed([*project["dependencies"], *(each for extra in extras.values() for each in extra)])
    assert {"opentelemetry-proto", "googleapis-common-protos", "protobuf"} <= names
    assert "xds-protos" not in names
    owners: dict[str, set[str]] = {}
    for name in names:
        try:
            listed = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in listed:
            # Some have an empty `__init__.py` in common.
            if file.suffix in (".py", ".pyi", ".so") and file.name != "__init__.py":
                owners.setdefault(str(file), set()).add(name)
    assert len(owners) > 1000
    assert {file: both for file, both in owners.items() if len(both) > 1} == {}


def test_nothing_is_complained_of_where_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), to_a_collector("otlp_http") as (_, sender):
        sender.send(600)
        assert sender.settled(600) == (600, 0)
    assert caplog.records == []
