"""The page in a real Chromium, by a person's steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from browser import Browser
from whole_system import Site

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def browser(aibrix: Site) -> Iterator[Browser]:
    browser = Browser(f"http://127.0.0.1:{aibrix.rest}")
    try:
        yield browser
    finally:
        browser.close()


def test_ask_and_see_why(browser: Browser) -> None:
    browser.visit()
    browser.write("#prompt", "What is the integral of sin(x)?")
    browser.click("#explain")
    browser.reads("math_decision", "#decision")
    assert browser.text("#model") == "qwen3-8b"
    shown = browser.text("#result")
    for part in ("domain:math", "Nearest decision that lost", "priority", "enable_thinking", "encoder"):
        assert part in shown
    browser.picture("page-playground")

    # A colleague opens what is in the address.
    address = browser.driver.current_url
    assert "integral" in address.partition("#")[2]
    browser.driver.get("about:blank")
    browser.driver.get(address)
    browser.reads("math_decision", "#decision")

    browser.click("#send")
    browser.reads("Status 200", "#answer")
    assert "x-vsr-selected-decision" in browser.text("#answer")
    assert browser.complaints() == []


def test_try_a_probe(browser: Browser) -> None:
    browser.visit()
    option = browser.one('#example optgroup[label="Probes: law"] option')
    option.click()
    browser.reads("law_decision", "#decision")
    assert browser.text("#expected") == "✓ As its probe expects."
    assert browser.one("#prompt").get_property("value") == option.get_attribute("textContent")
    browser.one("#prompt").send_keys(" Or not?")
    browser.click("#explain")
    browser.until(lambda: not browser.all("#expected") or None, "another prompt is no probe")


def test_change_a_threshold_and_see_what_moves(browser: Browser) -> None:
    browser.visit("#/compare")
    browser.until(lambda: "math_decision" in browser.one("#config").get_property("value") or None, "no configuration")
    browser.write("#samples", "What is the integral of sin(x)?\nWhy did the Roman Empire fall?\nprove it step by step")
    # What a person does in the text field: only what is all but certain counts as a domain.
    browser.script(
        "const field = document.getElementById('config');"
        "field.value = field.value.replace('global:', 'global:\\n  model_catalog:\\n    modules:\\n"
        "      classifier:\\n        domain:\\n          threshold: 0.9999');"
    )
    browser.click("#compare")
    # The third is decided by a keyword.
    browser.reads("2 of 3 requests move", "#moved")
    assert "math_decision → qwen3-8b" in browser.text("#moves")
    browser.script("document.getElementById('moves').scrollIntoView()")
    browser.picture("page-compare")

    # The change is in the address, without the rest of the configuration.
    address = browser.driver.current_url
    assert len(address) < 500
    browser.driver.get("about:blank")
    browser.driver.get(address)
    browser.reads("2 of 3 requests move", "#moved")

    browser.script("document.getElementById('config').value = 'routing: {decisions: [{nam: x}]}'")
    browser.click("#compare")

    def refusal() -> str | None:
        text = browser.text("#moves")
        if "try again" in text:
            # On a busy machine the comparison before has not ended yet.
            browser.click("#compare")
        return text if "pasted:1:" in text else None

    browser.until(refusal, lambda: browser.text("#moves"))
    # An address of another configuration says so, and compares nothing.
    browser.visit(f"#/compare?change={quote(json.dumps([0, ['version: v9'], ['version: v8']]))}")
    browser.reads("does not fit the configuration in force")
    assert browser.complaints() == []


def test_watch_decisions(browser: Browser, aibrix: Site) -> None:
    browser.visit("#/live")
    browser.reads("Connected", "#link")
    for prompt in ("What is the integral of sin(x)?", "prove it step by step", "Why did the Roman Empire fall?"):
        assert aibrix.ask(prompt).status_code == 200
    browser.reads("history_decision", "#requests")
    assert "Roman" not in browser.text()
    browser.one("#rate")
    browser.until(lambda: browser.text("#rate") != "0.0" or None, "no request was counted")
    browser.picture("page-live")
    assert browser.complaints() == []


def test_health(browser: Browser, aibrix: Site) -> None:
    browser.visit("#/health")
    shown = browser.reads("qwen3-8b")
    for part in ("ready", "minilm", "domain (14 labels)", "in service"):
        assert part in shown
    # Triton's own figures: who asks meanwhile is counted by it.
    for number in range(3):
        aibrix.ask(f"What is the integral of sin(x) over {number}?")
    browser.reads("Requests a second")
    browser.reads("Calls in flight\n0 of")
    browser.picture("page-health")
    assert browser.complaints() == []
