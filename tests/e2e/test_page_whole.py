"""The page in a real Chromium: markup as text, the token, keys, small screens, axe-core, a Triton that breaks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import httpx
import pytest
import yaml
from browser import Browser
from local_stack import REPOSITORY
from router_alone import router_alone
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from tritonclient.grpc import service_pb2_grpc
from whole_system import Fragile, Site, running

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

AXE = REPOSITORY / ".cache" / "axe-core" / "package" / "axe.min.js"
VIEWS = ("playground", "compare", "live", "health")
QUESTION = "What is the integral of sin(x)?"


@contextmanager
def chromium(url: str, **size: int) -> Iterator[Browser]:
    browser = Browser(url, **size)
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="module")
def browser(aibrix: Site) -> Iterator[Browser]:
    with chromium(f"http://127.0.0.1:{aibrix.rest}") as browser:
        yield browser


# --- markup is text ------------------------------------------------------------------------------------------------


def markup(place: str) -> str:
    return f'<img src=x onerror="window.attacked=\'{place}\'"><script>window.attacked="{place}"</script>{place}'


HOSTILE: dict[str, Any] = {
    "version": "v0.3",
    "providers": {
        "models": [
            {"name": markup("model"), "backend_refs": [{"endpoint": "127.0.0.1:1"}]},
            {"name": "plain", "backend_refs": [{"endpoint": "127.0.0.1:1"}]},
        ]
    },
    "routing": {
        "modelCards": [{"name": markup("model"), "loras": [{"name": markup("adapter")}]}],
        "signals": {"keywords": [{"name": markup("signal"), "operator": "OR", "keywords": [markup("keyword")]}]},
        "decisions": [
            {
                "name": markup("decision"),
                "priority": 9,
                "rules": {"operator": "OR", "conditions": [{"type": "keyword", "name": markup("signal")}]},
                "modelRefs": [{"model": markup("model"), "lora_name": markup("adapter")}],
                "plugins": [{"type": "system_prompt", "configuration": {"system_prompt": markup("system")}}],
            },
            {"name": markup("other"), "modelRefs": [{"model": "plain"}]},
        ],
    },
}


class _Backend(BaseHTTPRequestHandler):
    """An Envoy whose responses are full of markup, and a backend that has adapters of such names."""

    def do_GET(self) -> None:
        models = [{"id": markup("model")}, {"id": markup("stray"), "parent": markup("model")}]
        body = json.dumps({"object": "list", "data": models}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        chunk = {"choices": [{"delta": {"content": markup("answer")}}]}
        body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("x-vsr-selected-decision", markup("header"))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class _Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """One whose errors are full of markup."""

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        context.abort(grpc.StatusCode.INTERNAL, markup("triton"))

    def ModelStatistics(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        context.abort(grpc.StatusCode.INTERNAL, markup("statistics"))


@contextmanager
def hostile_triton() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Triton(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


CONVERSATION = [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}]
PROBES = {
    "decisions": [
        {
            "id": markup("group"),
            "expected_decision": markup("expected"),
            "variants": [
                {"id": markup("probe"), "messages": CONVERSATION, "headers": {"x-note": markup("note")}},
                {"id": "plain", "query": markup("query")},
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    server = HTTPServer(("127.0.0.1", 0), _Backend)
    thread = Thread(target=server.serve_forever)
    thread.start()
    address = f"127.0.0.1:{server.server_port}"
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "mine.yaml").write_text(yaml.safe_dump(PROBES))
    config = json.loads(json.dumps(HOSTILE))
    config["providers"]["models"][0]["backend_refs"] = [{"endpoint": address}]
    try:
        with hostile_triton() as triton:
            config["global"] = {
                "inference": {"endpoint": triton},
                "router": {"adapter_discovery": {"interval_seconds": 0.3}},
                "services": {"api": {"page": {"gateway": address, "probes": "mine.yaml"}}},
            }
            with router_alone(directory, config) as url, chromium(url) as browser:
                yield browser
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def is_text(browser: Browser, *places: str) -> None:
    """Each place's markup is on the screen as it is written, and nothing has become of it."""
    shown = browser.script("return document.body.textContent")
    for place in places:
        assert markup(place) in shown, place
    assert browser.script("return window.attacked ?? null") is None
    assert browser.all("main img, main script, main iframe") == []
    assert browser.complaints() == []


def test_in_the_playground(hostile: Browser) -> None:
    hostile.visit()
    hostile.write("#prompt", markup("keyword") + markup("prompt"))
    hostile.click("#explain")
    hostile.reads("decision", "#decision")
    is_text(hostile, "model", "adapter", "decision", "other", "signal")
    # In the outgoing body it is JSON.
    assert 'window.attacked=\\"system\\"' in hostile.script("return document.body.textContent")
    hostile.click("#send")
    hostile.reads("Status 200", "#answer")
    is_text(hostile, "answer", "header")


def test_in_errors(hostile: Browser) -> None:
    body = json.dumps({"model": markup("unknown"), "messages": [{"role": "user", "content": "x"}]})
    hostile.visit()
    hostile.click("summary")
    hostile.write("#whole", body)
    hostile.click("#explain")
    hostile.reads("does not exist", "#result")
    is_text(hostile, "unknown")


def test_in_the_address(hostile: Browser) -> None:
    hostile.visit("#/playground?prompt=%3Cimg%20src%3Dx%20onerror%3Dwindow.attacked%3D1%3E")
    hostile.reads("other", "#decision")
    hostile.visit("#/%3Cimg%20src%3Dx%3E?prompt=a")
    hostile.reads("Playground")
    is_text(hostile)


def test_in_a_comparison(hostile: Browser) -> None:
    hostile.visit("#/compare")
    hostile.until(lambda: "decisions" in hostile.one("#config").get_property("value") or None, "no configuration")
    hostile.script(
        "const field = document.getElementById('config');"
        "field.value = field.value.replace('priority: 9', 'priority: 9\\n    tier: 7');"
        "document.getElementById('samples').value = arguments[0];",
        markup("keyword") + markup("prompt"),
    )
    hostile.click("#compare")
    hostile.reads("1 of 1 requests move", "#moved")
    is_text(hostile, "decision", "other", "prompt")


def test_in_the_live_view(hostile: Browser) -> None:
    hostile.visit("#/live")
    hostile.reads("Connected", "#link")
    event = {"time": 1.0, "path": "routed", "decision": markup("decision"), "model": markup("model"), "reasoning": None,
             "cache": None, "degraded": [markup("part")], "status": None, "ms": 1.0,
             "failed": [{"model": markup("first"), "reason": markup("reason")}]}  # fmt: skip
    # What the router sends, without Envoy to make it: the view itself reads a stream of the test's.
    hostile.script(
        "const data = 'event: requests\\ndata: ' + JSON.stringify({requests: [arguments[0]], skipped: 0}) + '\\n\\n';"
        "window.fetch = async () => new Response(data, {headers: {'content-type': 'text/event-stream'}});"
        "location.hash = '#/health'; setTimeout(() => { location.hash = '#/live'; }, 300);",
        event,
    )
    hostile.reads("onerror", "#requests")
    is_text(hostile, "decision", "model", "part", "first", "reason")


def test_in_the_health_view(hostile: Browser) -> None:
    hostile.visit("#/health")
    hostile.reads("not declared")
    hostile.reads("returns no figures")
    is_text(hostile, "model", "adapter", "stray", "triton", "statistics")


def test_in_examples(hostile: Browser) -> None:
    hostile.visit()
    options = hostile.until(lambda: hostile.all("#example option")[1:], "no examples")
    texts = [each.get_attribute("textContent") for each in options[:2]]
    assert texts == [f"{markup(name)[:79]}…" for name in ("probe", "query")]
    assert hostile.one("#example optgroup").get_attribute("label") == f"Probes: {markup('group')}"
    options[0].click()
    hostile.reads("Its probe expects", "#result")
    assert hostile.one("#headers").get_property("value") == f"x-note: {markup('note')}"
    is_text(hostile, "expected")


def test_in_errors_of_a_broken_configuration(hostile: Browser) -> None:
    hostile.visit("#/compare")
    hostile.until(lambda: "decisions" in hostile.one("#config").get_property("value") or None, "no configuration")
    hostile.write("#samples", "hello")
    decision = {"name": markup("one"), markup("key"): 1, "modelRefs": [{"model": markup("no")}]}
    whole = yaml.safe_dump({"routing": {"decisions": [decision]}})
    for text, place, complaint in ((whole, "no", "no model named"), (f"? [{markup('yaml')}", "", "not valid YAML")):
        hostile.script("document.getElementById('config').value = arguments[0]", text)
        hostile.click("#compare")
        hostile.reads(complaint, "#moves")
        is_text(hostile, *filter(None, [place]))


# --- names and texts of every kind -----------------------------------------------------------------------------------

LONG = "a_decision_whose_name_never_ends_" * 7
RIGHT_TO_LEFT = "قرار الرياضيات"
CHINESE = "数学决策与推理模型的非常长的名字" * 3
NAMES: dict[str, Any] = {
    "version": "v0.3",
    "providers": {"models": [{"name": CHINESE, "backend_refs": [{"endpoint": "127.0.0.1:1"}]}]},
    "routing": {
        "signals": {
            "keywords": [
                {"name": LONG, "operator": "OR", "keywords": ["long"]},
                {"name": RIGHT_TO_LEFT, "operator": "OR", "keywords": ["مرحبا"]},
            ]
        },
        "decisions": [
            {
                "name": name,
                "rules": {"operator": "OR", "conditions": [{"type": "keyword", "name": name}]},
                "modelRefs": [{"model": CHINESE}],
            }
            for name in (LONG, RIGHT_TO_LEFT)
        ],
    },
}


def test_names_of_every_length_and_script_stay_in_their_place(tmp_path: Path) -> None:
    change = json.dumps([0, [], ["# a"]])
    views = {
        f"playground?prompt={LONG}long": ("Times", CHINESE),
        "playground?prompt=مرحبا بالعالم": ("Times", RIGHT_TO_LEFT),
        f"compare?samples=long%0Aمرحبا%0A{CHINESE}&change={change}": ("Flow of decisions", RIGHT_TO_LEFT),
        "health": ("Backends", CHINESE),
    }
    with router_alone(tmp_path, NAMES) as url, chromium(url, width=360, height=800) as browser:
        for view, (last, name) in views.items():
            browser.visit(f"#/{view}")
            browser.reads(last)
            browser.reads(name)
            assert browser.script("return document.documentElement.scrollWidth") <= 360, view
        browser.size(1200, 800)
        browser.visit("#/playground?prompt=مرحبا بالعالم")
        browser.reads(RIGHT_TO_LEFT, "#decision")
        # What is written from right to left does not turn the line around it.
        decision, model = (browser.one(f"#{name}").rect for name in ("decision", "model"))
        assert decision["x"] < model["x"]
        assert browser.complaints() == []


# --- the address -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("#", "Playground"),
        ("#/nowhere?prompt=%E0%A4%A", "Playground"),
        ("#/__proto__?constructor=1", "Playground"),
        ("#/playground?prompt=what?&prompt=again&path=/etc/passwd", "Outcome"),
        ("#/playground?request=%7B", "The request is not JSON"),
        ("#/playground?request=[]", "should be an object"),
        ("#/playground?headers=%00:%0A:&prompt=a", "Outcome"),
        ("#/compare?change=%7B", "does not fit"),
        ("#/compare?change=[]", "does not fit"),
        ("#/compare?change=[1e9,[],[3]]", "does not fit"),
        ('#/compare?change=[0,["another%20file"],[]]', "does not fit"),
        ("#/compare?from=nobody&tokens=-1e9", "does not go into service"),
        ("#/live?only=%25%25", "No requests yet"),
        ("#/health?x=" + "y" * 5000, "Backends"),
    ],
)
def test_an_address_that_makes_no_sense_leads_to_a_view_that_does(
    hostile: Browser, address: str, expected: str
) -> None:
    hostile.visit(address)
    hostile.reads(expected)
    is_text(hostile)


def test_an_address_stays_short_enough_to_be_sent(hostile: Browser) -> None:
    hostile.visit()
    hostile.one("#prompt")
    hostile.script("document.getElementById('prompt').value = 'word '.repeat(20000)")
    hostile.click("#explain")
    hostile.reads("too long for the address")
    assert hostile.script("return location.hash") == "#/playground"


def test_a_view_that_is_left_stops(hostile: Browser) -> None:
    hostile.visit("#/health")
    hostile.reads("Backends")
    hostile.script(
        "window.asked = []; const real = fetch;"
        "window.fetch = (path, options) => { asked.push([path, options?.signal]); return real(path, options); };"
    )
    # In one go, so that each is left before it has come, and then one by one.
    for pause in (0.0, 0.5):
        for view in ("live", "health", "live", "compare", "live", "playground"):
            hostile.script("location.hash = arguments[0]", f"#/{view}")
            time.sleep(pause)
    hostile.reads("Playground", "h1")
    open_views = "return asked.filter(([path, signal]) => path === '/api/v1/live' && !signal.aborted).length"
    assert hostile.script("return asked.filter(([path]) => path === '/api/v1/live').length") >= 3
    hostile.until(lambda: hostile.script(open_views) == 0 or None, "a view goes on")
    count = hostile.script("return asked.filter(([path]) => path === '/api/v1/status').length")
    time.sleep(7)
    assert hostile.script("return asked.filter(([path]) => path === '/api/v1/status').length") <= count + 1


# --- the token -----------------------------------------------------------------------------------------------------


def test_no_data_without_the_token(tmp_path: Path) -> None:
    with router_alone(tmp_path, HOSTILE, token="open sesame") as url, chromium(url) as browser:
        for view in VIEWS:
            browser.visit(f"#/{view}?prompt=hello")
            browser.reads("A token is needed", "#token")
            assert "decision" not in browser.text("main")
        browser.write("#token input", "open sesame" + Keys.ENTER)
        browser.visit("#/health")
        browser.reads("Backends")
        assert "sesame" not in browser.driver.current_url
        # Another tab knows nothing of it.
        browser.driver.switch_to.new_window("tab")
        browser.visit("#/health")
        browser.reads("A token is needed", "#token")
        for wrong in ("wrong", "pâss–wörd"):
            browser.write("#token input", wrong + Keys.ENTER)
            browser.reads("rejects this token", "#token")
        # Who has none is told so, and not asked without end.
        browser.one("#token input").send_keys(Keys.ESCAPE)
        browser.reads("Without the token")
        assert not browser.one("#token").is_displayed()


# --- everybody can use it ------------------------------------------------------------------------------------------


def draw(browser: Browser, view: str, aibrix: Site) -> None:
    """A view with something in it."""
    queries = {
        "playground": f"prompt={QUESTION}",
        "compare": "samples=hello%0Aworld&change=" + json.dumps([0, [], ["# a"]]),
    }
    browser.visit(f"#/{view}?{queries.get(view, '')}")
    ready = {"playground": "Times", "compare": "Flow of decisions", "live": "Connected", "health": "Backends"}
    browser.reads(ready[view])
    if view == "live":
        aibrix.ask("hello")
        browser.reads("other_decision", "#requests")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(browser: Browser, aibrix: Site, view: str, dark: bool) -> None:
    browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    try:
        browser.dark(dark)
        for width in (1200, 360):
            browser.size(width, 900)
            draw(browser, view, aibrix)
            browser.driver.execute_script(AXE.read_text())
            violations = browser.driver.execute_async_script(
                "const done = arguments[0]; axe.run(document).then((found) => done(found.violations), (error) =>"
                " done([{impact: 'critical', id: String(error), nodes: []}]));"
            )
            bad = [(each["id"], each["impact"], [node["html"] for node in each["nodes"]][:3])
                   for each in violations if each["impact"] in ("serious", "critical")]  # fmt: skip
            assert bad == []
    finally:
        browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
        browser.dark(False)
        browser.size(1200, 900)


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_a_small_screen(browser: Browser, aibrix: Site, view: str) -> None:
    browser.size(360, 800)
    try:
        draw(browser, view, aibrix)
        assert browser.script("return document.documentElement.scrollWidth") <= 360
        if view == "playground":
            browser.dark(True)
            browser.picture("page-small-dark")
    finally:
        browser.dark(False)
        browser.size(1200, 900)


def test_by_keys_alone(browser: Browser) -> None:
    browser.visit()
    browser.one("#prompt")
    # The first stop leads past the navigation; the next one is the first view.
    names: list[str] = []
    for _ in range(12):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        names.append(browser.script("return document.activeElement.id || document.activeElement.textContent"))
    assert names[0] == "Skip to the view"
    assert names[1:5] == ["Playground", "Compare", "Live", "Health"]
    assert {"prompt", "explain", "send", "example"} <= set(names)
    browser.one("#prompt").send_keys(QUESTION, Keys.CONTROL, Keys.ENTER)
    browser.reads("math_decision", "#decision")


@pytest.mark.parametrize("view", VIEWS)
def test_all_that_can_be_used_is_reached_by_keys_and_seen(browser: Browser, aibrix: Site, view: str) -> None:
    draw(browser, view, aibrix)
    browser.script(
        "const usable = 'a[href], button:enabled, input, select, textarea, summary, [tabindex=\"0\"]';"
        "window.missing = new Set([...document.querySelectorAll(usable)].filter((each) => each.checkVisibility()));"
        "window.unseen = [];"
        "addEventListener('focusin', ({target}) => { missing.delete(target);"
        "  if (getComputedStyle(target).outlineStyle === 'none') unseen.push(target.outerHTML.slice(0, 80)); });"
    )
    for _ in range(browser.script("return missing.size") + 5):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
    # What was drawn anew meanwhile is not there any more.
    left = "return [...missing].filter((each) => each.isConnected).map((each) => each.outerHTML.slice(0, 80))"
    assert browser.script(left) == []
    assert browser.script("return unseen") == []


def test_a_comparison_by_keys_alone(browser: Browser) -> None:
    browser.visit("#/compare")
    browser.until(lambda: "math_decision" in browser.one("#config").get_property("value") or None, "no configuration")
    browser.one("#source").send_keys("examples")
    browser.one("#config").send_keys(Keys.CONTROL, Keys.HOME)
    browser.driver.switch_to.active_element.send_keys("# a comment", Keys.ENTER)
    browser.one("#compare").send_keys(Keys.SPACE)
    browser.reads("0 of", "#moved")


def test_the_live_view_by_keys_alone(browser: Browser, aibrix: Site) -> None:
    browser.visit("#/live")
    browser.reads("Connected", "#link")
    browser.one("#only").send_keys("thinking")
    for prompt in (QUESTION, "prove it step by step"):
        aibrix.ask(prompt)
    browser.reads("thinking_decision", "#requests")
    assert "math_decision" not in browser.text("#requests")
    browser.one("#pause").send_keys(Keys.SPACE)
    aibrix.ask("prove it step by step, again")
    time.sleep(2.5)
    assert browser.text("#requests").count("thinking_decision") == 1
    browser.one("#pause").send_keys(Keys.ENTER)
    browser.until(lambda: browser.text("#requests").count("thinking_decision") == 2 or None, "nothing after the pause")


def test_it_is_usable_at_once(browser: Browser) -> None:
    browser.visit()
    browser.one("#prompt")
    transferred = browser.script(
        "return performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
        ".filter((each) => !each.name.includes('/api/')).reduce((sum, each) => sum + each.decodedBodySize, 0)"
    )
    assert 10_000 < transferred < 100_000


# --- honest when parts are down ------------------------------------------------------------------------------------


def test_a_triton_that_breaks_is_seen(fragile: Fragile) -> None:
    with chromium(f"http://127.0.0.1:{fragile.rest}") as browser:
        browser.visit("#/live")
        browser.reads("Connected", "#link")
        fragile.kill("triton")
        deadline = time.monotonic() + 60
        while "x-vsr-degraded" not in fragile.ask(QUESTION).headers and time.monotonic() < deadline:
            pass
        browser.reads("without triton", "#requests")
        browser.reads("degraded: triton", "#state")

        browser.visit(f"#/playground?prompt={QUESTION}")
        browser.reads("signals that need it are unknown", "#result")
        assert "unknown" in browser.text("#result")
        browser.picture("page-degraded")

        browser.visit("#/health")
        browser.reads("down:")
        browser.reads("returns no figures")

        fragile.start_triton()
        browser.reads("ready")
        browser.until(lambda: "returns no figures" not in browser.text() or None, "no figures come")
        browser.visit(f"#/playground?prompt={QUESTION}")
        browser.reads("math_decision", "#decision")


def test_a_rejected_file_is_shown_by_line(fragile: Fragile) -> None:
    with chromium(f"http://127.0.0.1:{fragile.rest}") as browser:
        text = fragile.config_file.read_text()
        try:
            fragile.config_file.write_text(text + "\nnonsense: true\n")
            browser.visit("#/health")
            browser.reads("nonsense", "#rejected")
            assert f"router.yaml:{len(text.splitlines()) + 2}:" in browser.text("#rejected")
        finally:
            fragile.config_file.write_text(text)
        browser.reads("in service")


def test_a_reload_does_not_end_a_live_view(fragile: Fragile) -> None:
    with chromium(f"http://127.0.0.1:{fragile.rest}") as browser:
        text = fragile.config_file.read_text()
        browser.visit("#/live")
        browser.reads("Connected", "#link")
        browser.script(
            "window.opened = 0; const real = fetch;"
            "window.fetch = (...all) => { opened += all[0] === '/api/v1/live'; return real(...all); };"
        )
        before = browser.reads("generation", "#state")
        try:
            fragile.config_file.write_text(text.replace("name: thinking_decision", "name: pondering_decision"))
            browser.until(lambda: browser.text("#state") != before or None, "no reload")
            fragile.ask("prove it step by step")
            browser.reads("pondering_decision", "#requests")
            assert browser.script("return opened") == 0
        finally:
            fragile.config_file.write_text(text)
        browser.until(lambda: browser.text("#state") == before or None, "no reload back")


# --- several processes ---------------------------------------------------------------------------------------------


@pytest.fixture
def two_workers(tmp_path: Path, triton_port: int) -> Iterator[Site]:
    services = {"extproc": {"workers": 2}, "router_replay": {"enabled": True, "include_request": True}}
    config = REPOSITORY / "config" / "aibrix.yaml"
    yield from running(Site(tmp_path, config, {"global": {"services": services}}, grpc=triton_port))


def test_requests_of_all_workers_are_seen_and_recorded(two_workers: Site) -> None:
    with chromium(f"http://127.0.0.1:{two_workers.rest}") as browser:
        browser.visit("#/live")
        browser.reads("Connected", "#link")
        before = httpx.get(f"{browser.url}/api/v1/recorded").json()["records"]
        prompts = [f"Prove it step by step, number {number}" for number in range(20)]
        for prompt in prompts:
            assert two_workers.ask(prompt).status_code == 200
        assert httpx.get(f"{browser.url}/api/v1/recorded").json() == {"keeps": True, "records": before + 20}
        browser.until(lambda: len(browser.all("#requests tbody tr")) >= 20 or None, "not all requests are shown")

        browser.visit("#/health")
        for port in (two_workers.extproc, two_workers.extproc + 1):
            browser.reads(f"{port} ✓ ready")

        browser.visit("#/compare?from=recorded")
        browser.until(lambda: "thinking_decision" in browser.one("#config").get_property("value") or None, "no file")
        browser.script(
            "const field = document.getElementById('config');"
            "field.value = field.value.replace('name: thinking_decision', 'name: another');"
        )
        browser.click("#compare")
        browser.reads("requests move", "#moved")
        assert int(browser.text("#moved b").split()[0]) >= 20
        assert prompts[0] in browser.text("#moves")
