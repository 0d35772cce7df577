"""A generation is put to use only after Envoy has taken it; what Envoy refuses never reaches a request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_stack import Gateway, chat, make_config, running
from pydantic import ValidationError

from triton_router.cli import main
from triton_router.config import Config, ConfigError, loads
from triton_router.stack import envoy, gateway
from triton_router.stack.envoy import validation
from triton_router.stack.gateway import FileGateway

ENVOY = validation.binary()
assert ENVOY is not None


@pytest.fixture(scope="module")
def extproc_port() -> Iterator[int]:
    with running("router_by_name.py") as port:
        yield port


def with_port(config: Config, port: int) -> Config:
    """``config`` with a port that the schema would not let pass."""
    model = config.providers.models[0]
    ref = model.backend_refs[0].model_copy(update={"endpoint": f"127.0.0.1:{port}"})
    models = (model.model_copy(update={"backend_refs": (ref,)}), *config.providers.models[1:])
    return config.model_copy(update={"providers": config.providers.model_copy(update={"models": models})})


# --- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ('backend_refs: [{endpoint: "127.0.0.1:99999"}]', "backend_refs[0].endpoint"),
        ('backend_refs: [{endpoint: "127.0.0.1:0"}]', "backend_refs[0].endpoint"),
        ('backend_refs: [{endpoint: "256.0.0.1:80"}]', "backend_refs[0].endpoint"),
        ('backend_refs: [{endpoint: "[1:2:3]:80"}]', "backend_refs[0].endpoint"),
        ('backend_refs: [{endpoint: "-a:80"}]', "backend_refs[0].endpoint"),
        ("reliability: {base_ejection_time: 1e30}", "reliability.base_ejection_time"),
        ("reliability: {health_check_interval: .inf}", "reliability.health_check_interval"),
        ("reliability: {health_check_timeout: .nan}", "reliability.health_check_timeout"),
        ("reliability: {keep_alive: 1e-30}", "reliability.keep_alive"),
        ("reliability: {first_byte_timeout: -1}", "reliability.first_byte_timeout"),
        ("reliability: {consecutive_5xx: 99999999999}", "reliability.consecutive_5xx"),
        ('reliability: {health_check_path: "/a\\nb"}', "reliability.health_check_path"),
    ],
)
def test_what_envoy_would_not_take_is_an_error_with_its_line(written: str, path: str) -> None:
    served = "" if "endpoint" in written else '    backend_refs: [{endpoint: "127.0.0.1:1"}]\n'
    with pytest.raises(ConfigError) as raised:
        loads(f"providers:\n  models:\n  - name: m\n    {written}\n{served}", file="c.yaml")
    (problem,) = raised.value.problems
    assert (problem.line, problem.path) == (4, f"providers.models[0].{path}")


@pytest.mark.parametrize(
    "services",
    [
        {"envoy": {"idle_timeout_seconds": 1e30}},
        {"envoy": {"request_timeout_seconds": 0}},
        {"envoy": {"host": "example.com"}},
        {"envoy": {"cors": {"allow_origins": ["chat.example.com"]}}},
        {"envoy": {"cors": {"allow_origins": []}}},
        {"extproc": {"host": "a b"}},
        {"extproc": {"port": 65535, "workers": 2}},
        {"extproc": {"health_port": 65535, "workers": 2}},
    ],
)
def test_settings_of_the_listener_have_envoys_bounds(services: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_config({"m": ["127.0.0.1:1"]}, services=services)


def test_failing_open_is_said() -> None:
    text = 'providers: {models: [{name: m, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}\n'
    loaded = loads(text + "global: {services: {envoy: {failure_mode_allow: true}}}\n")
    (warning,) = loaded.warnings
    assert (warning.line, warning.path) == (2, "global.services.envoy.failure_mode_allow")
    assert "hides" in warning.message
    assert not loads(text).warnings


durations = st.sampled_from([0.001, 0.0010001, 1 / 3, 86_400])
reliabilities = st.fixed_dictionaries(
    {},
    optional={
        "base_ejection_time": durations,
        "health_check_interval": durations,
        "health_check_timeout": durations,
        "keep_alive": durations,
        "first_byte_timeout": durations,
        "consecutive_5xx": st.sampled_from([0, 1, 1_000_000]),
        "max_ejection_percent": st.sampled_from([0, 100]),
        "retry_count": st.sampled_from([0, 5]),
        "retry_responses": st.booleans(),
        "health_check_path": st.sampled_from([None, "/", "/a?b=%20&c", "/" + "~" * 1000]),
    },
)
hosts = st.sampled_from(["10.0.0.1:1", "[::1]:65535", "a.b-c.d:80", "localhost:80", "x" * 63 + ".y:80", "h_t:80"])


@pytest.mark.e2e
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(min_size=1, max_size=256), st.lists(hosts, min_size=1, max_size=3), reliabilities, durations)
def test_envoy_takes_whatever_the_schema_takes(
    name: str, endpoints: list[str], reliability: dict[str, object], duration: float
) -> None:
    listener = {"idle_timeout_seconds": duration, "request_timeout_seconds": duration, "host": "localhost"}
    try:
        config = make_config({name: list(endpoints)}, reliability=reliability, services={"envoy": listener})
    except ValidationError:
        return
    validation.validate(config, ENVOY)


# --- check ---------------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_check_has_envoys_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('providers: {models: [{name: m, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}\n')
    assert main(["check", "--config", str(path)]) == 0
    clusters = envoy.clusters
    monkeypatch.setattr("triton_router.stack.envoy.listener.clusters", lambda c: clusters(with_port(c, 99_999)))
    assert main(["check", "--config", str(path)]) == 1
    error = capsys.readouterr().err
    assert "c.yaml: error: Envoy refuses" in error and "must be less than or equal to 65535" in error
    assert "typed_config" not in error
    monkeypatch.setattr(validation, "binary", lambda: None)
    assert main(["check", "--config", str(path)]) == 0
    assert "its own validation did not run" in capsys.readouterr().err


# --- reload --------------------------------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize("validated", [True, False])
def test_a_refused_generation_leaves_the_last_one_whole(
    start_gateway: Callable[..., Gateway],
    start_backend: Callable[..., str],
    extproc_port: int,
    monkeypatch: pytest.MonkeyPatch,
    validated: bool,
) -> None:
    running_gateway = start_gateway({"m": [start_backend("m")], "n": [start_backend("n")]}, extproc_port=extproc_port)
    files = FileGateway(running_gateway.directory, running_gateway.config)
    if not validated:
        monkeypatch.setattr(validation, "binary", lambda: None)
    before = {path.name: path.read_bytes() for path in running_gateway.directory.iterdir()}
    words = "must be less than or equal to 65535" if validated else "refused its new cds.json"
    with pytest.raises(validation.EnvoyRefused, match=words):
        asyncio.run(files.widen(with_port(running_gateway.config, 99_999)))
    assert {path.name: path.read_bytes() for path in running_gateway.directory.iterdir()} == before
    for model in ("m", "n"):
        assert running_gateway.client.post("/v1/chat/completions", json=chat(model)).status_code == 200
    more = make_config({"o": [start_backend("o")]})
    asyncio.run(files.widen(more))
    for model in ("m", "n", "o"):
        assert running_gateway.client.post("/v1/chat/completions", json=chat(model)).status_code == 200
    asyncio.run(files.narrow(more))
    assert running_gateway.client.post("/v1/chat/completions", json=chat("o")).status_code == 200


def test_an_envoy_that_does_not_answer_acknowledges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "WARM_WITHIN", 0.1)
    monkeypatch.setattr(validation, "binary", lambda: None)
    config = make_config({"m": ["127.0.0.1:1"]}, services={"envoy": {"admin_port": 1}})
    files = FileGateway(tmp_path, config)
    files.write()
    before = (tmp_path / "cds.json").read_bytes()
    with pytest.raises(validation.EnvoyRefused, match="has not acknowledged"):
        asyncio.run(files.widen(make_config({"n": ["127.0.0.1:2"]})))
    assert (tmp_path / "cds.json").read_bytes() == before


def test_files_are_written_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()

    def noted(config: Config) -> Iterator[envoy.Json]:
        threads.add(threading.current_thread().name)
        return clusters(config)

    clusters = envoy.clusters
    monkeypatch.setattr("triton_router.stack.envoy.files.clusters", noted)
    monkeypatch.setattr(validation, "binary", lambda: None)
    monkeypatch.setattr(gateway, "_state", lambda *_: gateway._State())
    monkeypatch.setattr(gateway, "WARM_WITHIN", 0.1)
    config = make_config({"m": ["127.0.0.1:1"]})
    with pytest.raises(validation.EnvoyRefused):
        asyncio.run(FileGateway(tmp_path, config).widen(config))
    assert threads and threading.main_thread().name not in threads
