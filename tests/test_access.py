"""Who may ask which model: however it is asked for, in every API."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from triton_router.config import ConfigError, loads
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

PROVIDERS = """
providers:
  defaults: {default_model: small, embedding_model: embedder}
  models:
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: large, backend_refs: [{endpoint: "127.0.0.1:2"}]}
    - {name: embedder, backend_refs: [{endpoint: "127.0.0.1:3"}]}
"""
GUIDE = re.findall(r"```yaml\n(.*?)```", (Path(__file__).parents[1] / "docs/signals/authz.md").read_text(), re.DOTALL)
WRITTEN = PROVIDERS + GUIDE[0].replace("routing:", "routing:\n  modelCards: [{name: large, loras: [{name: law}]}]")
TURNS = [{"role": "user", "content": "hi"}]
APIS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": TURNS},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": TURNS, "max_tokens": 9},
    "/v1/embeddings": {"input": "hi"},
}
ADA = {"x-authz-user-id": "ada"}
BOB = {"x-authz-user-id": "bob", "x-authz-user-groups": "sales"}


def outcome_of(config: str, path: str, model: str | None, headers: dict[str, str]) -> Outcome:
    pipeline = Pipeline(compile_runtime(loads(config)), None, TopicParameters(), Metrics())
    body = json.dumps({**APIS[path], **({"model": model} if model else {})}).encode()
    return asyncio.run(pipeline.route(Request("POST", path, headers, body)))


def status(outcome: Outcome) -> int:
    return outcome.status if isinstance(outcome, Reply) else 200


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Reply)
    error = json.loads(outcome.body)["error"]
    return str(error.get("code") or error["type"])


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("model", ["MoM", "large", "law", "small", None])
@pytest.mark.parametrize("rules", [WRITTEN, WRITTEN.replace("access:", "access: []\n      #")], ids=["rules", "none"])
def test_a_caller_whom_nobody_knows_gets_nothing_whatever_it_names(path: str, model: str | None, rules: str) -> None:
    if "access: []" in rules:
        rules = rules.replace("        - {models: [large], roles: [premium]}\n", "")
    outcome = outcome_of(rules, path, model, {})
    assert status(outcome) == 403 and code(outcome) in ("identity_required", "permission_error")


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("model", ["large", "law"])
def test_a_role_is_needed_for_a_model_that_is_named(path: str, model: str) -> None:
    assert status(outcome_of(WRITTEN, path, model, BOB)) == 403
    assert status(outcome_of(WRITTEN, path, model, ADA)) == 200
    assert status(outcome_of(WRITTEN, path, "small", BOB)) == 200


def test_a_role_is_needed_for_a_model_that_a_rule_or_the_default_chooses() -> None:
    chosen = WRITTEN.replace("rules: {type: authz, name: premium}\n      ", "")
    assert code(outcome_of(chosen, "/v1/chat/completions", "MoM", BOB)) == "access_denied"
    assert status(outcome_of(chosen, "/v1/chat/completions", "MoM", ADA)) == 200
    default = WRITTEN.replace("default_model: small", "default_model: large")
    assert code(outcome_of(default, "/v1/chat/completions", "auto", BOB)) == "access_denied"


def test_a_path_is_a_rule_of_its_own() -> None:
    paths = WRITTEN.replace("{models: [large], roles", "{paths: [/v1/embeddings], roles")
    assert status(outcome_of(paths, "/v1/embeddings", "embedder", BOB)) == 403
    assert status(outcome_of(paths, "/v1/embeddings", None, BOB)) == 403
    assert status(outcome_of(paths, "/v1/embeddings", None, ADA)) == 200
    assert status(outcome_of(paths, "/v1/chat/completions", "large", BOB)) == 200


def test_rules_hold_where_callers_without_identity_are_let_in() -> None:
    opened = WRITTEN.replace("    authz:\n", "    authz:\n      fail_open: true\n")
    assert code(outcome_of(opened, "/v1/chat/completions", "large", {})) == "identity_required"
    assert status(outcome_of(opened, "/v1/chat/completions", "MoM", {})) == 200
    outcome = outcome_of(opened, "/v1/chat/completions", "MoM", {})
    assert isinstance(outcome, Forward) and outcome.headers["x-selected-model"] == "small"


def test_callers_see_the_models_that_they_may_ask() -> None:
    pipeline = Pipeline(compile_runtime(loads(WRITTEN)), None, TopicParameters(), Metrics())

    def listed(headers: dict[str, str], name: str = "") -> Any:
        outcome = asyncio.run(pipeline.route(Request("GET", f"/v1/models{name}", headers)))
        assert isinstance(outcome, Reply)
        return {each["id"] for each in json.loads(outcome.body)["data"]} if not name else outcome.status

    assert listed(ADA) - listed(BOB) == {"large", "law"} and "small" in listed({})
    assert (listed(ADA, "/large"), listed(BOB, "/large")) == (200, 404)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            "models: [large]",
            "models: [lagre]",
            "`lagre` is no model or adapter, so this rule protects nothing; did you",
        ),
        ("roles: [premium]", "roles: [premum]", "no role named `premum` in routing.signals.role_bindings; did you"),
        ("set_by: gateway", "set_by: nobody", "nobody would pass access rules"),
        ("models: [large]", "paths: [/v1/admin1]", "pattern"),
    ],
)
def test_a_rule_that_cannot_act_is_an_error(before: str, after: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        loads(WRITTEN.replace(before, after))


def test_a_model_that_only_roles_guard_and_names_reach_is_said() -> None:
    assert not loads(WRITTEN).warnings
    [warning] = loads(WRITTEN.replace("{models: [large]", "{models: [small]")).warnings
    assert "clients who name `large` need no role" in warning.message
