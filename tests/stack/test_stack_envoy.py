"""The configuration that is written for Envoy, as data, and as Envoy itself reads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_stack import make_config

from triton_router.config import Config
from triton_router.names import CLIENT_HEADERS
from triton_router.stack import envoy

AWKWARD = ["org/model:tag", "Qwen/Qwen3-8B", "a b", "模型", 'quo"te', "100%", "a.b*c", "x" * 256, "extproc"]


def route_table(config: Config) -> list[dict[str, Any]]:
    return envoy.routes(config)["virtual_hosts"][0]["routes"]


def cluster(config: Config, name: str) -> dict[str, Any]:
    return next(c for c in envoy.clusters(config) if c["name"] == envoy.cluster_name(name))


def in_one_static_file(config: Config, directory: Path) -> Path:
    """The dynamic resources inside the bootstrap: Envoy's validation looks into nothing else."""
    document = json.loads(envoy.write(config, directory, workers=[("127.0.0.1", 1), ("127.0.0.1", 2)]).read_text())
    del document["dynamic_resources"]
    clusters = json.loads((directory / "cds.json").read_text())["resources"]
    table = json.loads((directory / "rds.json").read_text())["resources"][0]
    for resource in (*clusters, table):
        del resource["@type"]
    document["static_resources"]["clusters"] += clusters
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = table
    path = directory / "static.json"
    path.write_text(json.dumps(document))
    return path


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("envoy")), "--mode", "validate", "-c", str(path), "-l", "error"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# --- what is stripped ----------------------------------------------------------------------------------------------


@given(st.one_of(st.text("cdaehbugontrl-x", max_size=16), st.sampled_from(["debug", "cache-control", "debu", ""])))
def test_all_but_spares_exactly_the_named(tail: str) -> None:
    expression = re.compile(envoy.all_but("x-vsr-", CLIENT_HEADERS), re.DOTALL)
    name = f"x-vsr-{tail}"
    assert bool(expression.fullmatch(name)) is (name not in CLIENT_HEADERS)


def test_all_but_leaves_other_prefixes_alone() -> None:
    expression = re.compile(envoy.all_but("x-vsr-", CLIENT_HEADERS))
    assert not expression.fullmatch("x-other-selected-model")
    assert not expression.fullmatch("ax-vsr-selected-model")


# --- clusters ------------------------------------------------------------------------------------------------------


def test_weights_and_addresses() -> None:
    config = make_config({"m": [("10.0.0.1:8000", 3), ("[::1]:8001", 1)]})
    made = cluster(config, "m")
    endpoints = made["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [endpoint["load_balancing_weight"] for endpoint in endpoints] == [3, 1]
    sockets = [endpoint["endpoint"]["address"]["socket_address"] for endpoint in endpoints]
    assert [(s["address"], s["port_value"]) for s in sockets] == [("10.0.0.1", 8000), ("::1", 8001)]
    assert made.get("type", "STATIC") == "STATIC"
    assert made["common_lb_config"]["healthy_panic_threshold"].get("value", 0) == 0


def test_names_are_resolved() -> None:
    made = cluster(make_config({"m": ["vllm.ns.svc.cluster.local:8000", "10.0.0.1:8000"]}), "m")
    assert made["type"] == "STRICT_DNS"


def test_reliability_reaches_the_cluster_and_the_route() -> None:
    document = {
        "name": "m",
        "backend_refs": [{"endpoint": "10.0.0.1:8000"}, {"endpoint": "10.0.0.2:8000"}],
        "reliability": {
            "lb_policy": "round_robin",
            "retry_count": 0,
            "consecutive_5xx": 0,
            "health_check_path": None,
            "base_ejection_time": 400,
        },
    }
    config = Config.model_validate({"providers": {"models": [document]}})
    made = cluster(config, "m")
    assert made.get("lb_policy", "ROUND_ROBIN") == "ROUND_ROBIN"
    assert "health_checks" not in made
    assert made["outlier_detection"]["enforcing_consecutive_5xx"] == 0
    assert made["outlier_detection"]["max_ejection_time"] == "400s"
    assert "retry_policy" not in route_table(config)[0]["route"]


def test_a_single_worker_is_never_ejected() -> None:
    assert "outlier_detection" not in envoy.ext_proc_cluster([("127.0.0.1", 1)])
    assert "outlier_detection" in envoy.ext_proc_cluster([("127.0.0.1", 1), ("127.0.0.1", 2)])


def test_envoy_waits_longer_than_the_router() -> None:
    for deadline, seconds in ((None, "5s"), (200, "4.2s"), (60_000, "64s")):
        config = make_config({"m": ["10.0.0.1:8000"]}, inference={"deadline_ms": deadline})
        assert envoy.ext_proc_filter(config)["typed_config"]["message_timeout"] == seconds


# --- routes --------------------------------------------------------------------------------------------------------


def test_models_then_guards_then_404() -> None:
    config = make_config({"a": ["10.0.0.1:8000"], "b": ["10.0.0.2:8000"]})
    table = route_table(config)
    assert [table.pop(index)["route"]["cluster"] for index in (2, 2, 4, 4, 7, 8, 9)] == ["fallback"] * 7
    *forwarded, anthropic_at_once, anthropic, guard_at_once, guard = table[:6]
    hidden, models, model, health, slash, *mistakes, last, connect = table[6:]
    assert [
        (route["match"]["headers"][1]["string_match"]["exact"], route["route"]["cluster"]) for route in forwarded
    ] == [("a", "model/a"), ("b", "model/b")]
    assert all(route["route"]["timeout"] == "0s" for route in forwarded)
    for at_once, other in ((anthropic_at_once, anthropic), (guard_at_once, guard)):
        *headers, length = at_once["match"]["headers"]
        assert {**at_once["match"], "headers": headers} == other["match"]
        assert at_once["direct_response"] == other["direct_response"]
        expression = re.compile(length["string_match"]["safe_regex"]["regex"])
        assert [bool(expression.fullmatch(text)) for text in ("1", "1024", "007", "0", "00", "")] == [True] * 3 + [
            False
        ] * 3
    for route in (*forwarded, guard):
        expression = re.compile(route["match"]["safe_regex"]["regex"])
        assert all(expression.fullmatch(path) for path in envoy.MODEL_PATHS)
        assert not expression.fullmatch("/v1/load_lora_adapter")
        assert not expression.fullmatch("/v1/chat/completions/")
        assert route["match"]["headers"][0] == {"name": ":method", "string_match": {"exact": "POST"}}
    assert [models["match"]["path"], model["match"]["safe_regex"]["regex"], health["match"]["path"]] == [
        "/v1/models",
        "/v1/models/.+",
        "/health",
    ]
    assert {route["direct_response"]["status"] for route in (anthropic, guard, models, model, health)} == {503}
    body = json.loads(anthropic["direct_response"]["body"]["inline_string"])
    assert anthropic["match"]["path"] == "/v1/messages" and body["error"].keys() == {"type", "message"}
    assert last["match"]["prefix"] == "/" and last["direct_response"]["status"] == 404
    assert connect["match"] == {"connect_matcher": {}}
    for route in (hidden, slash, *mistakes, last, connect):
        assert route["direct_response"]["status"] in (400, 403, 404)
        assert route["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["disabled"] is True


def test_failing_open_goes_to_the_default_model() -> None:
    document = {
        "providers": {
            "defaults": {"default_model": "law"},
            "models": [
                {"name": "a", "backend_refs": [{"endpoint": "10.0.0.1:8000"}]},
                {"name": "b", "backend_refs": [{"endpoint": "10.0.0.2:8000"}]},
            ],
        },
        "routing": {"modelCards": [{"name": "b", "loras": [{"name": "law"}]}]},
        "global": {"services": {"envoy": {"failure_mode_allow": True}}},
    }
    table = route_table(Config.model_validate(document))
    assert [route["route"]["cluster"] for route in table[2:4]] == ["model/b", "model/b"]
    assert len(table[3]["match"]["headers"]) == 1
    # A request that came back from another model carries what the router noted of it.
    assert all("x-vsr-attempt" in route["request_headers_to_remove"] for route in table[2:4])
    # What the router answers itself has no backend to fall back on.
    assert [route["direct_response"]["status"] for route in table[4:9]] == [400, 503, 503, 503, 400]
    assert {route["direct_response"]["status"] for route in table[9:]} == {403, 404}


def test_names_that_are_not_ascii_match_plain_and_encoded() -> None:
    config = make_config({"模型": ["10.0.0.1:8000"]})
    expression = route_table(config)[0]["match"]["headers"][1]["string_match"]["safe_regex"]["regex"]
    assert re.fullmatch(expression, "模型") and re.fullmatch(expression, "%E6%A8%A1%E5%9E%8B")


# --- files ---------------------------------------------------------------------------------------------------------


def test_write_leaves_three_files_and_versions_them_by_content(tmp_path: Path) -> None:
    def version() -> str:
        return str(json.loads((tmp_path / "rds.json").read_text())["version_info"])

    envoy.write(make_config({"a": ["10.0.0.1:1"]}), tmp_path, workers=[("127.0.0.1", 1)])
    first = version()
    envoy.write(make_config({"a": ["10.0.0.1:1"]}), tmp_path, workers=[("127.0.0.1", 1)])
    assert version() == first
    envoy.write(make_config({"b": ["10.0.0.1:1"]}), tmp_path, workers=[("127.0.0.1", 1)])
    assert version() != first
    assert {path.name for path in tmp_path.iterdir()} == {"bootstrap.json", "cds.json", "rds.json"}


@pytest.mark.e2e
@pytest.mark.parametrize("failure_mode_allow", [False, True])
def test_envoy_accepts_awkward_names(tmp_path: Path, failure_mode_allow: bool) -> None:
    models = {name: [f"10.0.0.{number}:8000"] for number, name in enumerate(AWKWARD)}
    models["named"] = ["vllm.example.internal:8000"]
    config = make_config(models, services={"envoy": {"failure_mode_allow": failure_mode_allow}})
    result = validate(in_one_static_file(config, tmp_path))
    assert result.returncode == 0, result.stderr + result.stdout


@pytest.mark.e2e
def test_envoy_accepts_many_models(tmp_path: Path) -> None:
    config = make_config({f"model-{number}": ["10.0.0.1:8000"] for number in range(100)})
    result = validate(in_one_static_file(config, tmp_path))
    assert result.returncode == 0, result.stderr + result.stdout


@pytest.mark.e2e
def test_envoy_accepts_no_models(tmp_path: Path) -> None:
    result = validate(in_one_static_file(Config(), tmp_path))
    assert result.returncode == 0, result.stderr + result.stdout


@pytest.mark.e2e
def test_validation_would_notice(tmp_path: Path) -> None:
    path = in_one_static_file(make_config({"a": ["10.0.0.1:1"]}), tmp_path)
    document = json.loads(path.read_text())
    document["static_resources"]["clusters"].pop()
    path.write_text(json.dumps(document))
    assert validate(path).returncode != 0
