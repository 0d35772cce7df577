"""Each way of putting the router into a gateway, in the real Envoy, with the real router and Triton.

The manifests are translated as Envoy Gateway does it (``envoy_gateway.py``); only addresses are replaced.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from envoy_gateway import (
    CLUSTER,
    EXT_PROC,
    EXT_PROC_ROUTE,
    Json,
    PatchRefused,
    Resources,
    cluster,
    endpoints,
    extension,
    listener,
    on_loopback,
    patch,
    routes,
    switched_on,
    tokens,
    validate,
)
from gateway_site import Gateway, Pods, running
from local_stack import free_port, wait_for
from manifests import Object, find, rendered
from second_processor import EndpointPicker, GatewayPlugin, Passing, Refusing, SecondProcessor
from whole_system import running as started

from deploy.checks import helm

pytestmark = [pytest.mark.e2e, pytest.mark.deploy]

THINKER, QUICK = "qwen3-8b", "llama3-8b-instruct"
# The three questions of the guides.
MATH = "What is the derivative of x^3 + 2x?"
BUSINESS = "What are the key factors to consider when entering a new market?"
WALK = "Walk me through how to structure a business merger proposal."
AIBRIX_FILTER = (
    "envoy.filters.http.ext_proc/envoyextensionpolicy/aibrix-system/aibrix-gateway-plugins-extension-policy/extproc/0"
)


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    yield from started(Pods(tmp_path_factory.mktemp("pods")))


@pytest.fixture(scope="module")
def trusting_pods(tmp_path_factory: pytest.TempPathFactory, pods: Pods) -> Iterator[Pods]:
    """A router that believes the gateway about who is asking, as the `-authenticated` directories set it."""
    yield from started(Pods(tmp_path_factory.mktemp("trusting"), identity="gateway", beside=pods))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Resources, Pods], Gateway]]:
    with ExitStack() as stack:
        yield lambda resources, pods: stack.enter_context(running(resources, pods, tmp_path))


# --- gateways ------------------------------------------------------------------------------------------------------


def aibrix(objects: list[Object], pods: Pods, plugin: SecondProcessor, filters: list[Json] | None = None) -> Resources:
    """The gateway that AIBrix installs, with its plugin and its routes, patched as the manifests say.

    First routes go to AIBrix's own path routes, which carry its plugin; the plugin names the model, or a pod.
    """
    processor: Json = {
        "name": AIBRIX_FILTER,
        "disabled": True,
        "typed_config": {
            "@type": EXT_PROC,
            "grpc_service": {"envoy_grpc": {"cluster_name": "aibrix-plugins"}, "timeout": "10s"},
            "message_timeout": "5s",
            "processing_mode": {
                "request_header_mode": "SEND",
                "request_body_mode": "BUFFERED",
                "request_trailer_mode": "SKIP",
                "response_header_mode": "SEND",
                "response_body_mode": "STREAMED",
                "response_trailer_mode": "SKIP",
            },
        },
    }
    plugin_on = switched_on(processor)
    addresses = {"aibrix-plugins": [("127.0.0.1", plugin.port)], **pods.addresses}
    clusters = {"aibrix-plugins": cluster("aibrix-plugins", addresses["aibrix-plugins"], {}, http2=True)}
    table: list[Json] = [
        {
            "match": {
                "prefix": "/",
                "headers": [{"name": "routing-strategy", "string_match": {"safe_regex": {"regex": ".*"}}}],
            },
            "route": {"cluster": "original_destination_cluster", "timeout": "600s"},
            "typed_per_filter_config": plugin_on,
        }
    ]
    clusters["original_destination_cluster"] = {
        "name": "original_destination_cluster",
        "type": "ORIGINAL_DST",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": "target-pod"},
        "connect_timeout": "6s",
        "lb_policy": "CLUSTER_PROVIDED",
    }
    for model in pods.backends:
        headers = [{"name": "model", "string_match": {"exact": model}}]
        table.append(
            {
                "match": {"path_separated_prefix": "/v1/chat/completions", "headers": headers},
                "route": {"cluster": f"httproute/aibrix-system/{model}-router/rule/0", "timeout": "120s"},
            }
        )
        name = f"httproute/aibrix-system/{model}-router/rule/0"
        clusters[name] = cluster(name, addresses[f"{model}.default:8000"], {})
    table.append(
        {
            "match": {"path_separated_prefix": "/v1/chat/completions"},
            "route": {"cluster": "aibrix-plugins"},
            "typed_per_filter_config": plugin_on,
        }
    )
    table.append({"match": {"path_separated_prefix": "/v1/models"}, "route": {"cluster": "aibrix-plugins"}})
    policy = {"connection": {"bufferLimit": 4194304}}
    # Authentication, where there is any, stands before ext_proc.
    resources = Resources(
        listener("aibrix-system/aibrix-eg/http", policy, [*(filters or []), processor]), table, clusters
    )
    patch(resources, find(objects, "EnvoyPatchPolicy"))
    on_loopback(resources, addresses)
    return resources


def own_gateway(objects: list[Object], pods: Pods, keys: str = "") -> Resources:
    """The gateway of ``deploy/envoy-gateway`` and of the directories that build on it."""
    addresses = pods.addresses
    # The chart has one for each route, all alike.
    traffic = next(each["spec"] for each in objects if each["kind"] == "BackendTrafficPolicy")
    filters: list[Json] = []
    per_route: Json = {}
    clusters: dict[str, Json] = {}
    if any(each["kind"] == "SecurityPolicy" for each in objects):
        authentication, per_route = tokens(find(objects, "SecurityPolicy"), keys)
        filters.append(authentication)
    if any(each["kind"] == "EnvoyExtensionPolicy" for each in objects):
        made, clusters = extension(find(objects, "EnvoyExtensionPolicy"), addresses)
        filters += made
        per_route = {**per_route, **switched_on(*made)}
    table, backends = routes(objects, traffic, per_route, addresses)
    policy = find(objects, "ClientTrafficPolicy")["spec"]
    resources = Resources(listener("tcp-80", policy, filters), table, {**clusters, **backends})
    for each in objects:
        if each["kind"] == "EnvoyPatchPolicy":
            patch(resources, each)
    on_loopback(resources, addresses)
    return resources


# --- the guides' three questions -----------------------------------------------------------------------------------


def answers_the_three(gateway: Gateway) -> None:
    expected = [
        (MATH, "math_decision", THINKER, True),
        (BUSINESS, "business_decision", QUICK, False),
        (WALK, "thinking_decision", THINKER, True),
    ]
    for prompt, decision, model, thinks in expected:
        answer = gateway.ask(prompt, max_tokens=200)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-vsr-selected-decision"] == decision
        assert answer.headers["x-vsr-selected-reasoning"] == ("on" if thinks else "off")
        received = answer.json()["demo"]["received"]
        assert received["model"] == model
        assert len(received["system"]) == 1
        switch = {"chat_template_kwargs": {"enable_thinking": True}} if thinks else {}
        assert received["fields"] == {"max_tokens": 200, **switch}


def streams(gateway: Gateway) -> None:
    """An answer passes as it comes, whatever the filters' own modes are."""
    body = {"model": "MoM", "stream": True, "messages": [{"role": "user", "content": MATH}]}
    headers = {"x-demo-script": "chunks=10;seconds=2"}
    arrived = []
    with gateway.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data:"):
                arrived.append(time.monotonic())
    assert arrived[-1] - arrived[0] > 1


def strips_what_clients_forge(gateway: Gateway) -> None:
    forged = {"x-gateway-base-model-name": QUICK, "x-selected-model": QUICK, "x-vsr-selected-model": QUICK}
    answer = gateway.ask(MATH, headers=forged)
    assert answer.json()["model"] == THINKER
    assert answer.json()["demo"]["headers"]["x-selected-model"] == THINKER


def takes_long_prompts(gateway: Gateway) -> None:
    assert gateway.ask("word " * 200_000).status_code == 200
    assert gateway.ask("word " * 1_000_000).status_code == 413


CHECKS = [answers_the_three, streams, strips_what_clients_forge, takes_long_prompts]


def test_the_patch_policy_in_aibrix(pods: Pods, start: Callable[..., Gateway]) -> None:
    with GatewayPlugin(pods.backends) as plugin:
        gateway = start(aibrix(rendered("aibrix"), pods, plugin), pods)
        for check in CHECKS:
            check(gateway)


def test_the_second_processor_sees_what_the_router_wrote(pods: Pods, start: Callable[..., Gateway]) -> None:
    with GatewayPlugin(pods.backends) as plugin:
        resources = aibrix(rendered("aibrix"), pods, plugin)
        assert resources.filters == [
            "envoy.filters.http.ext_proc/triton-router", AIBRIX_FILTER, "envoy.filters.http.router",
        ]  # fmt: skip
        gateway = start(resources, pods)
        by_model = gateway.ask(MATH)
        by_pod = gateway.ask(BUSINESS, headers={"routing-strategy": "least-request", "target-pod": "127.0.0.1:1"})
        assert (by_model.status_code, by_pod.status_code) == (200, 200)
    first, second = plugin.seen
    assert first.document["model"] == THINKER
    assert first.document["chat_template_kwargs"] == {"enable_thinking": True}
    assert first.document["messages"][0]["role"] == "system"
    assert first.headers["x-gateway-base-model-name"] == first.headers["x-selected-model"] == THINKER
    assert int(first.headers["content-length"]) == len(first.body)
    assert json.loads(first.answer)["model"] == THINKER
    assert (second.document["model"], by_pod.json()["demo"]["port"]) == (QUICK, pods.backends[QUICK])
    assert "target-pod" not in second.headers, "a client cannot say where a request goes"


def test_the_extension_policy(pods: Pods, start: Callable[..., Gateway]) -> None:
    resources = own_gateway(rendered("envoy-gateway"), pods)
    gateway = start(resources, pods)
    for check in CHECKS:
        check(gateway)
    assert gateway.client.get("/v1/models").status_code == 200
    assert gateway.client.get("/health").status_code == 200
    assert gateway.client.post("/v1/load_lora_adapter", json={}).status_code == 404
    unknown = gateway.ask("hello", model="nobody")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_the_patch_policy_in_a_gateway_of_ones_own(pods: Pods, start: Callable[..., Gateway]) -> None:
    resources = own_gateway(rendered("envoy-gateway-filter-first"), pods)
    assert resources.filters == ["envoy.filters.http.ext_proc/triton-router", "envoy.filters.http.router"]
    gateway = start(resources, pods)
    for check in CHECKS:
        check(gateway)


def charted(name: str) -> list[Object]:
    """What the chart makes of a values file, each in its namespace, under the names of the manifests."""
    namespace = "triton-router"
    objects = helm.render([helm.CHART / "values" / name], release="triton-router", namespace=namespace)
    for each in objects:
        each["metadata"].setdefault("namespace", namespace)
    return objects


def test_the_charts_patch_policy_in_aibrix(pods: Pods, start: Callable[..., Gateway]) -> None:
    with GatewayPlugin(pods.backends) as plugin:
        gateway = start(aibrix(charted("aibrix.yaml"), pods, plugin), pods)
        for check in CHECKS:
            check(gateway)


def test_the_charts_extension_policy(pods: Pods, start: Callable[..., Gateway]) -> None:
    gateway = start(own_gateway(charted("envoy-gateway.yaml"), pods), pods)
    for check in (answers_the_three, streams, strips_what_clients_forge):
        check(gateway)
    assert gateway.client.get("/v1/models").status_code == 200
    assert gateway.client.post("/v1/load_lora_adapter", json={}).status_code == 404


# --- authentication ------------------------------------------------------------------------------------------------

SECRET = b"only for this test, and long enough for HS256"
KEYS = json.dumps(
    {"keys": [{"kty": "oct", "alg": "HS256", "kid": "1", "k": base64.urlsafe_b64encode(SECRET).decode().rstrip("=")}]}
)


def token_of(user: str, seconds: float = 600) -> dict[str, str]:
    """A bearer token; Envoy gives every one a minute more than it says."""

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    claims = {"iss": "https://issuer.example.com", "aud": "llm", "sub": user, "exp": int(time.time() + seconds - 60)}
    head = json.dumps({"alg": "HS256", "typ": "JWT", "kid": "1"})
    signed = f"{part(head.encode())}.{part(json.dumps(claims).encode())}"
    signature = hmac.digest(SECRET, signed.encode(), hashlib.sha256)
    return {"authorization": f"Bearer {signed}.{part(signature)}"}


def aibrix_with_tokens(objects: list[Object], pods: Pods, plugin: SecondProcessor) -> Resources:
    """AIBrix's gateway with a SecurityPolicy, which reaches every route but the one that AIBrix's own patch adds."""
    authentication, on = tokens(find(objects, "SecurityPolicy"), KEYS)
    resources = aibrix(objects, pods, plugin, [authentication])
    for route in resources.routes[1:]:
        route["typed_per_filter_config"] = {**route.get("typed_per_filter_config", {}), **on}
    return resources


def path_of(gateway: Gateway, prompt: str, headers: dict[str, str] | None) -> str:
    answer = gateway.ask(prompt, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-vsr-response-path"]


def served(gateway: Gateway, prompt: str, headers: dict[str, str] | None) -> None:
    wait_for(lambda: path_of(gateway, prompt, headers) == "cache", "the answer is kept")


@pytest.mark.parametrize("place", ["aibrix-authenticated", "envoy-gateway-authenticated"])
def test_behind_authentication(trusting_pods: Pods, start: Callable[..., Gateway], place: str) -> None:
    objects = rendered(place)
    with GatewayPlugin(trusting_pods.backends) as plugin:
        if place.startswith("aibrix"):
            resources = aibrix_with_tokens(objects, trusting_pods, plugin)
        else:
            resources = own_gateway(objects, trusting_pods, KEYS)
        assert resources.filters[0] == "envoy.filters.http.jwt_authn"
        assert resources.filters[1].startswith("envoy.filters.http.ext_proc/")
        gateway = start(resources, trusting_pods)
        prompt = f"Write a limerick about the word {place}."
        served(gateway, prompt, token_of("ada"))
        assert gateway.ask(prompt).status_code == 401, "not even from the cache"
        assert gateway.ask(prompt, headers={"routing-strategy": "random"}).status_code == 401
        assert gateway.client.get("/v1/models").status_code == 401
        assert path_of(gateway, prompt, token_of("bob")) == "upstream", "who the token names is believed"
        forged = {**token_of("mallory"), "x-authz-user-id": "ada"}
        assert path_of(gateway, prompt, forged) == "upstream", "who the client names is not"
        # The credential is another one, the user the same.
        time.sleep(1.1)
        assert path_of(gateway, prompt, token_of("ada")) == "cache"


def test_first_of_all_the_router_answers_before_authentication(pods: Pods, start: Callable[..., Gateway]) -> None:
    """What the guide warns of in the position of the seed: an expired token is still good for what is cached."""
    policy = find(rendered("aibrix-authenticated"), "SecurityPolicy")
    with GatewayPlugin(pods.backends) as plugin:
        gateway = start(aibrix_with_tokens([*rendered("aibrix"), policy], pods, plugin), pods)
        prompt = "Write a limerick about filters that come first."
        expiring = token_of("ada", seconds=4)
        assert gateway.ask(prompt).status_code == 401, "nothing is cached yet, and the backend is guarded"
        served(gateway, prompt, expiring)
        wait_for(lambda: gateway.ask(MATH, headers=expiring).status_code == 401, "the token has expired")
        assert path_of(gateway, prompt, expiring) == "cache"
        assert gateway.client.get("/v1/models").status_code == 200, "the list of models is the router's own answer"


# --- failing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["aibrix", "envoy-gateway", "envoy-gateway-filter-first"])
def test_without_a_router_nothing_reaches_a_backend(
    pods: Pods, start: Callable[..., Gateway], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "replicas", [free_port()])
    with GatewayPlugin(pods.backends) as plugin:
        objects = rendered(place)
        resources = aibrix(objects, pods, plugin) if place == "aibrix" else own_gateway(objects, pods)
        gateway = start(resources, pods)
        for headers in ({}, {"x-gateway-base-model-name": QUICK, "x-selected-model": QUICK}):
            assert gateway.ask(MATH, headers=headers).status_code in (500, 503)
        assert plugin.seen == []


def test_the_guard_answers_where_failing_open_lets_through(
    pods: Pods, start: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with `failOpen: true` a request that the router has not seen finds no model's route."""
    monkeypatch.setattr(pods, "replicas", [free_port()])
    objects = rendered("envoy-gateway")
    find(objects, "EnvoyExtensionPolicy")["spec"]["extProc"][0]["failOpen"] = True
    gateway = start(own_gateway(objects, pods), pods)
    answer = gateway.ask(MATH, headers={"x-gateway-base-model-name": QUICK})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")


def nothing_but_the_router(place: str) -> Resources:
    """A gateway that a patch policy puts the router into, and that answers by itself what has passed the router."""
    resources = Resources(
        listener("aibrix-system/aibrix-eg/http" if place == "aibrix" else "tcp-80", {}),
        [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
    )
    patch(resources, find(rendered(place), "EnvoyPatchPolicy"))
    return resources


@pytest.mark.parametrize("place", ["aibrix", "envoy-gateway-filter-first"])
def test_a_pod_that_refuses_costs_no_request(pods: Pods, start: Callable[..., Gateway], place: str) -> None:
    """Before health checks and ejections know of it. It has the fewest requests, so Envoy likes to ask it again."""
    resources = nothing_but_the_router(place)
    router = resources.clusters["triton-router"]
    del router["health_checks"], router["outlier_detection"]
    with Passing() as one, Refusing() as other:
        both = [("127.0.0.1", each.port) for each in (one, other)]
        on_loopback(resources, {"triton-router.triton-router:50051": both})
        gateway = start(resources, pods)
        with ThreadPoolExecutor(6) as clients:
            statuses = list(clients.map(lambda _: gateway.client.get("/").status_code, range(600)))
        assert other.seen
    assert set(statuses) == {200}


def flagged(gateway: Gateway) -> bool:
    """Whether Envoy holds anything against a pod: a failed health check, or an ejection."""
    return "/failed_" in httpx.get(f"{gateway.admin}/clusters").text


@pytest.mark.parametrize("place", ["aibrix", "envoy-gateway-filter-first"])
def test_a_pod_that_is_back_takes_over_at_once(pods: Pods, start: Callable[..., Gateway], place: str) -> None:
    """When the other one goes as soon as Envoy says that the first is well: its threads hear of that without delay."""
    resources = nothing_but_the_router(place)
    statuses: set[int] = set()
    with Passing() as one, Passing() as other:
        both = [("127.0.0.1", each.port) for each in (one, other)]
        on_loopback(resources, {"triton-router.triton-router:50051": both})
        gateway = start(resources, pods)

        def ask() -> None:
            statuses.update(gateway.client.get("/").status_code for _ in range(20))

        wait_for(lambda: not flagged(gateway), "both are well")
        one.stop()
        ask()
        wait_for(lambda: flagged(gateway), "one is found to be gone")
        with Passing(one.port):
            wait_for(lambda: not flagged(gateway), "one is well again")
            other.stop()
            ask()
    assert statuses == {200}


@pytest.mark.parametrize("place", ["aibrix", "envoy-gateway-filter-first"])
def test_a_pod_that_drains_is_left_alone_after_one_check(pods: Pods, start: Callable[..., Gateway], place: str) -> None:
    """However many may fail by silence: what a pod says itself is believed at once."""
    resources = nothing_but_the_router(place)
    [check] = resources.clusters["triton-router"]["health_checks"]
    assert check["unhealthy_threshold"] > 1
    check["unhealthy_threshold"] = 1000
    with Passing() as one, Passing() as other:
        both = [("127.0.0.1", each.port) for each in (one, other)]
        on_loopback(resources, {"triton-router.triton-router:50051": both})
        gateway = start(resources, pods)
        wait_for(lambda: not flagged(gateway), "both are well")
        other.health.enter_graceful_shutdown()
        wait_for(lambda: flagged(gateway), "the other drains")
        count = len(other.seen)
        assert {gateway.client.get("/").status_code for _ in range(20)} == {200}
        assert len(other.seen) == count


class Replicas:
    """Two routers in the place of one, for a gateway whose ``pods`` they become."""

    def __init__(self, pods: Pods, directory: Callable[[str], Path], stack: ExitStack) -> None:
        self.each = [Pods(directory(name), beside=pods) for name in ("replica-a", "replica-b")]
        for replica in self.each:
            replica.backends = pods.backends
            stack.callback(replica.stop)
            replica.start_router()
        self.wait()
        self.pods = copy.copy(pods)
        self.pods.replicas = [replica.extproc for replica in self.each]

    def wait(self) -> None:
        for replica in self.each:
            wait_for(replica._routes, "the replica has Triton")

    def restart(self, going: Callable[[int], None], coming: Callable[[], None]) -> None:
        """SIGTERM to each in its turn. ``going`` is told of the port before, ``coming`` comes after."""
        for replica in self.each:
            going(replica.extproc)
            router = replica.processes["router"]
            router.send_signal(signal.SIGTERM)
            assert router.wait(40) == 0
            replica.start_router()
            self.wait()
            coming()


def statuses_meanwhile(gateway: Gateway, work: Callable[[], None]) -> list[int]:
    """The status of every request that clients make while ``work`` is done."""
    statuses: list[int] = []
    end = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=gateway.url, timeout=30) as client:
            body = {"model": "MoM", "messages": [{"role": "user", "content": WALK}]}
            while not end.is_set():
                statuses.append(client.post("/v1/chat/completions", json=body).status_code)
                end.wait(0.02)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        work()
    finally:
        end.set()
        for client in clients:
            client.join()
    return statuses


def test_a_restart_behind_the_patch_policy_loses_no_request(
    tmp_path_factory: pytest.TempPathFactory, pods: Pods, start: Callable[..., Gateway]
) -> None:
    """Although DNS still names the pod that goes: Envoy asks the other one, also without the pause before SIGTERM."""
    with ExitStack() as stack, GatewayPlugin(pods.backends) as plugin:
        replicas = Replicas(pods, tmp_path_factory.mktemp, stack)
        gateway = start(aibrix(rendered("aibrix"), replicas.pods, plugin), pods)

        def ready_again() -> None:
            # A new pod has a new address, which nothing is held against; here the old one has to be forgiven first.
            wait_for(lambda: "/failed_" not in httpx.get(f"{gateway.admin}/clusters").text, "all replicas are used")

        statuses = statuses_meanwhile(gateway, lambda: replicas.restart(lambda _: None, ready_again))
    assert len(statuses) > 100
    assert set(statuses) == {200}


@pytest.mark.slow
def test_a_restart_behind_the_extension_policy_loses_no_request(
    tmp_path_factory: pytest.TempPathFactory, pods: Pods, start: Callable[..., Gateway], tmp_path: Path
) -> None:
    """Envoy Gateway knows no `previous_hosts`: the endpoint has to be gone before SIGTERM comes, as with preStop."""
    name = "envoyextensionpolicy/triton-router/triton-router/0"

    def know(ports: list[int]) -> None:
        addresses = endpoints([("127.0.0.1", port) for port in ports])
        type_url = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
        assignment = {"@type": type_url, "cluster_name": name, "endpoints": [{"lb_endpoints": addresses}]}
        fresh = tmp_path / "endpoints.new"
        fresh.write_text(json.dumps({"version_info": str(ports), "resources": [assignment]}))
        fresh.rename(tmp_path / "endpoints.json")
        time.sleep(0.5)

    with ExitStack() as stack:
        replicas = Replicas(pods, tmp_path_factory.mktemp, stack)
        resources = own_gateway(rendered("envoy-gateway"), replicas.pods)
        processor = resources.clusters[name]
        del processor["load_assignment"]
        source = {"resource_api_version": "V3", "path_config_source": {"path": str(tmp_path / "endpoints.json")}}
        processor |= {"type": "EDS", "eds_cluster_config": {"eds_config": source}}
        all_of_them = replicas.pods.replicas
        know(all_of_them)
        gateway = start(resources, pods)

        def without(going: int) -> None:
            know([port for port in all_of_them if port != going])

        statuses = statuses_meanwhile(gateway, lambda: replicas.restart(without, lambda: know(all_of_them)))
    assert len(statuses) > 100
    assert set(statuses) == {200}


# --- Inference Extension -------------------------------------------------------------------------------------------


def pools(objects: list[Object], pods: Pods, pickers: dict[str, EndpointPicker]) -> Resources:
    """As an implementation of InferencePool does it: a picker's filter for each pool, off on all routes but its own."""
    resources = own_gateway(objects, pods)
    names = {model: f"envoy.filters.http.ext_proc/endpointpicker/{model}_default_ext_proc" for model in pickers}
    at = len(resources.manager["http_filters"]) - 1
    for model, picker in pickers.items():
        mode = {"request_header_mode": "SEND", "response_header_mode": "SEND"}
        mode |= {"request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND"}
        mode |= {"response_body_mode": "FULL_DUPLEX_STREAMED", "response_trailer_mode": "SEND"}
        config = {
            "@type": EXT_PROC,
            "grpc_service": {"envoy_grpc": {"cluster_name": f"epp/{model}"}},
            "message_timeout": "10s",
            "processing_mode": mode,
        }
        resources.manager["http_filters"].insert(at, {"name": names[model], "typed_config": config})
        resources.clusters[f"epp/{model}"] = cluster(f"epp/{model}", [("127.0.0.1", picker.port)], {}, http2=True)
        name = f"httproute/triton-router/{model}/rule/0"
        resources.clusters[name] = {
            "name": name,
            "type": "ORIGINAL_DST",
            "original_dst_lb_config": {"use_http_header": True, "http_header_name": "x-gateway-destination-endpoint"},
            "connect_timeout": "6s",
            "lb_policy": "CLUSTER_PROVIDED",
        }
    for route in resources.routes:
        owner = route.get("route", {}).get("cluster", "").split("/")[2:3]
        off = {"@type": EXT_PROC_ROUTE, "disabled": True}
        others = {names[model]: off for model in pickers if [model] != owner}
        route["typed_per_filter_config"] = {**route["typed_per_filter_config"], **others}
    return resources


def test_endpoint_pickers_behind_the_router(pods: Pods, start: Callable[..., Gateway]) -> None:
    objects = rendered("inference-extension")
    specs = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "InferencePool"}
    assert set(specs) == set(pods.backends)
    with EndpointPicker(pods.backends[THINKER]) as thinker, EndpointPicker(pods.backends[QUICK]) as quick:
        gateway = start(pools(objects, pods, {THINKER: thinker, QUICK: quick}), pods)
        answers_the_three(gateway)
        streams(gateway)
        forged = gateway.ask(BUSINESS, headers={"x-gateway-destination-endpoint": "127.0.0.1:1"})
        assert forged.json()["model"] == QUICK
    assert [each.document["model"] for each in thinker.seen] == [THINKER] * 3
    assert [each.document["model"] for each in quick.seen] == [QUICK] * 2
    assert all(each.headers["x-gateway-base-model-name"] == THINKER for each in thinker.seen)
    assert "x-gateway-destination-endpoint" not in quick.seen[-1].headers


def test_a_filter_that_only_a_models_route_switches_on_never_runs(pods: Pods, start: Callable[..., Gateway]) -> None:
    """Why policies are for the Gateway: Envoy builds the chain by the first route, which is the guard's."""
    with EndpointPicker(pods.backends[THINKER]) as thinker, EndpointPicker(pods.backends[QUICK]) as quick:
        resources = pools(rendered("inference-extension"), pods, {THINKER: thinker, QUICK: quick})
        pickers = [each for each in resources.manager["http_filters"] if "/endpointpicker/" in each["name"]]
        for each in pickers:
            each["disabled"] = True
        for route in resources.routes:
            config = route["typed_per_filter_config"]
            config = {name: value for name, value in config.items() if "/endpointpicker/" not in name}
            route["typed_per_filter_config"] = {**config, **(switched_on(*pickers) if "route" in route else {})}
        gateway = start(resources, pods)
        assert gateway.ask(MATH).status_code == 503
    assert thinker.seen == quick.seen == []


# --- planted faults ------------------------------------------------------------------------------------------------


def policy_value(objects: list[Object], index: int) -> Any:
    return find(objects, "EnvoyPatchPolicy")["spec"]["jsonPatches"][index]["operation"]


def unknown_field(objects: list[Object]) -> None:
    config = policy_value(objects, 0)["value"]["typed_config"]
    config["failure_mode_alow"] = config.pop("failure_mode_allow")


def unknown_mode(objects: list[Object]) -> None:
    policy_value(objects, 0)["value"]["typed_config"]["processing_mode"]["request_body_mode"] = "BUFERED"


def misplaced_field(objects: list[Object]) -> None:
    value = policy_value(objects, 1)["value"]
    value["http2_protocol_option"] = {}


def wrong_port(objects: list[Object]) -> None:
    [endpoint] = policy_value(objects, 1)["value"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoint["endpoint"]["address"]["socket_address"]["port_value"] = 50052


def wrong_path(objects: list[Object]) -> None:
    policy_value(objects, 0)["path"] = "/default_filter_chain/filters/0/typed_config/httpFilters/0"


def wrong_listener(objects: list[Object]) -> None:
    find(objects, "EnvoyPatchPolicy")["spec"]["jsonPatches"][0]["name"] = "aibrix-system/aibrix-eg/https"


def another_filter_first(objects: list[Object]) -> None:
    patches = find(objects, "EnvoyPatchPolicy")["spec"]["jsonPatches"]
    value = "envoy.filters.http.jwt_authn"
    path = "/default_filter_chain/filters/0/typed_config/http_filters/0/name"
    patches.insert(0, {**patches[0], "operation": {"op": "test", "path": path, "value": value}})


@pytest.mark.parametrize("fault", [wrong_path, wrong_listener, another_filter_first])
def test_a_patch_that_does_not_fit_is_refused(pods: Pods, fault: Callable[[list[Object]], None]) -> None:
    objects = copy.deepcopy(rendered("aibrix"))
    fault(objects)
    with GatewayPlugin({}) as plugin, pytest.raises(PatchRefused):
        aibrix(objects, pods, plugin)


@pytest.mark.parametrize("fault", [unknown_field, unknown_mode, misplaced_field])
def test_envoy_refuses_a_mistyped_patch(pods: Pods, fault: Callable[[list[Object]], None], tmp_path: Path) -> None:
    objects = copy.deepcopy(rendered("aibrix"))
    with GatewayPlugin({}) as plugin:
        sound = aibrix(objects, pods, plugin)
        assert validate(sound.static(free_port(), free_port()), tmp_path).returncode == 0
        fault(objects)
        resources = aibrix(objects, pods, plugin)
        assert validate(resources.static(free_port(), free_port()), tmp_path).returncode != 0


def test_a_port_that_no_service_has_is_noticed(pods: Pods) -> None:
    objects = copy.deepcopy(rendered("aibrix"))
    wrong_port(objects)
    with GatewayPlugin({}) as plugin, pytest.raises(KeyError):
        aibrix(objects, pods, plugin)


def test_the_filters_cluster_is_the_one_that_is_added() -> None:
    """Envoy's validation does not look for the cluster that ext_proc names."""
    for place in ("aibrix", "aibrix-authenticated", "envoy-gateway-filter-first"):
        patches = find(rendered(place), "EnvoyPatchPolicy")["spec"]["jsonPatches"]
        added = {each["name"] for each in patches if each["type"] == CLUSTER}
        filters = [each["operation"]["value"] for each in patches if each["operation"]["path"].split("/")[-1].isdigit()]
        named = {each["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"] for each in filters}
        assert named == added == {"triton-router"}
