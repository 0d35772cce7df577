"""From a request to what is sent on, without encoder and network."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from triton_router.config import loads
from triton_router.exchange import Forward, Reply, Request
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics

CONFIG = """
providers:
  defaults:
    reasoning_families: {qwen3: {type: chat_template_kwargs, parameter: enable_thinking}}
  models:
    - {name: thinker, reasoning_family: qwen3, backend_refs: [{endpoint: "127.0.0.1:1"}]}
routing:
  decisions:
    - name: all
      modelRefs: [{model: thinker, use_reasoning: true}]
      plugins: [{type: system_prompt, configuration: {mode: prepend, system_prompt: S}}]
"""

ROLES = """
providers:
  models:
    - {name: plain, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: fine, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    role_bindings:
      - {name: staff, role: premium, subjects: [{kind: Group, name: staff}]}
  decisions:
    - name: premium
      rules: {type: authz, name: premium}
      modelRefs: [{model: fine}]
      plugins:
        - type: header_mutation
          configuration: {update: [{name: x-tier, value: gold}], delete: [x-authz-user-id]}
global: {services: {authz: {fail_open: OPEN, identity: {set_by: gateway}}}}
"""

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"]), "content": st.text() | st.none()},
        optional={"name": st.text(), "x-odd": values},
    ),
    min_size=1,
    max_size=4,
)
OURS = ("model", "messages", "chat_template_kwargs")


def pipeline(text: str) -> Pipeline:
    return Pipeline(compile_runtime(loads(text)), None, TopicParameters(), Metrics())


def routed(text: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Forward | Reply:
    request = Request("POST", "/v1/chat/completions", headers or {}, json.dumps(body).encode())
    return asyncio.run(pipeline(text).route(request))


@given(st.dictionaries(st.text().filter(lambda name: name not in OURS), values, max_size=5), messages)
def test_whatever_else_a_chat_request_holds_is_sent_on_untouched(others: dict[str, Any], turns: list[Any]) -> None:
    body = {**others, "model": "MoM", "messages": turns}
    outcome = routed(CONFIG, body)
    assert isinstance(outcome, Forward) and outcome.body is not None
    forwarded = json.loads(outcome.body)
    assert forwarded == {
        **others,
        "model": "thinker",
        "messages": [{"role": "system", "content": "S"}, *turns],
        "chat_template_kwargs": {"enable_thinking": True},
    }


HELLO = {"model": "MoM", "messages": [{"role": "user", "content": "hello"}]}
STAFF = {"x-authz-user-id": "ada", "x-authz-user-groups": "staff"}
GUEST = {"x-authz-user-id": "bob"}


def test_a_role_opens_a_decision() -> None:
    outcome = routed(ROLES.replace("OPEN", "false"), HELLO, STAFF)
    assert isinstance(outcome, Forward)
    assert outcome.headers["x-selected-model"] == "fine"
    assert outcome.headers["x-tier"] == "gold"
    assert outcome.remove == ("x-authz-user-id",)
    guest = routed(ROLES.replace("OPEN", "false"), HELLO, GUEST)
    assert isinstance(guest, Forward) and guest.headers["x-selected-model"] == "plain"


def test_a_caller_whom_nobody_knows_is_refused_unless_told_otherwise() -> None:
    outcome = routed(ROLES.replace("OPEN", "false"), HELLO)
    assert isinstance(outcome, Reply) and outcome.status == 403
    assert json.loads(outcome.body)["error"]["code"] == "identity_required"
    opened = routed(ROLES.replace("OPEN", "true"), HELLO)
    assert isinstance(opened, Forward) and opened.headers["x-selected-model"] == "plain"
