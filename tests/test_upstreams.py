"""Keys and headers of providers' APIs, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triton_router import upstreams
from triton_router.config import ConfigError, loads
from triton_router.errors import Refusal
from triton_router.exchange import Forward, Reply, Request
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.telemetry import Metrics

CLIENT = {"authorization": "Bearer mine", "api-key": "mine", "cookie": "c=1", "x-tenant-id": "t", "x-session-id": "s"}


def config(*refs: str, more: str = "") -> str:
    return f"providers: {{models: [{{name: far, backend_refs: [{', '.join(refs)}]}}]}}\n{more}"


async def forwarded(*refs: str) -> Forward | Reply:
    pipeline = Pipeline(compile_runtime(loads(config(*refs))), None, {}, Metrics())
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    outcome = await pipeline.route(Request("POST", "/v1/chat/completions", CLIENT, body))
    assert isinstance(outcome, Forward | Reply)
    return outcome


async def test_a_backend_of_ones_own_gets_what_the_client_sent() -> None:
    outcome = await forwarded("{endpoint: '10.0.0.1:8000'}")
    assert isinstance(outcome, Forward) and not outcome.remove and "authorization" not in outcome.headers


@pytest.mark.parametrize(
    ("keys", "header", "value"),
    [
        ("api_key: k", "authorization", "Bearer k"),
        ("api_key_env: FAR_KEY", "authorization", "Bearer from-env"),
        ("api_key: k, auth_prefix: Token", "authorization", "Token k"),
        ("api_key: k, auth_header: X-Api-Key, auth_prefix: ''", "x-api-key", "k"),
    ],
)
async def test_where_the_key_comes_from_and_how_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, keys: str, header: str, value: str
) -> None:
    monkeypatch.setenv("FAR_KEY", "from-env")
    outcome = await forwarded(f"{{base_url: 'https://api.example.com/v1', {keys}}}")
    assert isinstance(outcome, Forward) and outcome.headers[header] == value
    assert {"authorization", "api-key", "cookie", "x-tenant-id"} <= set(outcome.remove)
    assert "x-session-id" not in outcome.remove


async def test_the_clients_credentials_are_sent_where_that_is_asked_for() -> None:
    outcome = await forwarded("{base_url: 'https://api.example.com/v1', forward_credentials: true}")
    assert isinstance(outcome, Forward) and not outcome.remove


@pytest.mark.parametrize("key", ["api_key_env: NOBODY_SETS_THIS", "api_key_file: /nowhere/key", 'api_key: "a\\nb"'])
async def test_without_its_key_a_model_is_not_asked(key: str) -> None:
    outcome = await forwarded(f"{{base_url: 'https://api.example.com/v1', {key}}}")
    assert isinstance(outcome, Reply) and outcome.status == 503
    assert json.loads(outcome.body)["error"]["code"] == "upstream_credential_missing"


def test_a_file_is_read_again_and_a_broken_one_keeps_the_last_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "key", [100.0]
    monkeypatch.setattr(upstreams.time, "monotonic", lambda: now[0])
    ref = f"{{base_url: 'https://api.example.com/v1', api_key_file: '{path}'}}"
    backends = upstreams.Upstreams(loads(config(ref)).config)
    with pytest.raises(Refusal):
        backends.changes("far", {})
    keys = []
    for content in ("one\n", "two", "", None):
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        now[0] += upstreams.FRESH
        keys.append(backends.changes("far", {})[0]["authorization"])
    assert keys == ["Bearer one", "Bearer two", "Bearer two", "Bearer two"]


def test_secrets_are_masked_where_the_configuration_is_shown() -> None:
    loaded = loads(config("{base_url: 'https://a.example/v1', api_key: sk-1, extra_headers: {x-org: sk-2}}"))
    assert "sk-1" not in loaded.config.model_dump_json() + repr(loaded.config)
    assert "sk-2" not in loaded.config.model_dump_json() + repr(loaded.config)


@pytest.mark.parametrize(
    ("url", "endpoint", "protocol", "path"),
    [
        ("https://api.example.com/v1", "api.example.com:443", "https", None),
        ("https://api.example.com/v1/", "api.example.com:443", "https", None),
        ("https://api.example.com", "api.example.com:443", "https", ""),
        ("http://host:8000/openai/v1", "host:8000", "http", "/openai/v1"),
        ("http://[::1]:8443/a/b", "[::1]:8443", "http", "/a/b"),
    ],
)
def test_what_a_url_means(url: str, endpoint: str, protocol: str, path: str | None) -> None:
    (ref,) = loads(config(f"{{base_url: '{url}'}}")).config.providers.models[0].backend_refs
    assert (ref.endpoint, ref.protocol, ref.path) == (endpoint, protocol, path)


def mistakes(text: str) -> list[Any]:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return [problem.path for problem in caught.value.problems if problem.severity == "error"]


def test_mistakes() -> None:
    ref = "providers.models[0].backend_refs"
    assert mistakes(config("{base_url: 'ftp://x/v1'}")) == [f"{ref}[0].base_url"]
    assert mistakes(config("{base_url: 'https://user:pw@x/v1'}")) == [f"{ref}[0].base_url"]
    assert mistakes(config("{base_url: 'https://10.0.0.1/v1'}")) == [f"{ref}[0].base_url"]
    assert mistakes(config("{base_url: 'https://x/v1', api_key: a, api_key_file: B}")) == [f"{ref}[0]"]
    open_ = "global: {services: {envoy: {failure_mode_allow: true}}}"
    assert mistakes(config("{base_url: 'https://x/v1'}", more=open_)) == [f"{ref}[0].base_url"]
