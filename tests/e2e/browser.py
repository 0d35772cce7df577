"""A real Chromium, driven as a person would: by keys, clicks and what is on the screen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")

# Long, as elsewhere: no test is a stopwatch.
PATIENCE = 120
ASSETS = Path(__file__).parents[2] / "docs" / "assets"


class Browser:
    """Debian's `chromium` without a window. ``url`` is where the page is served."""

    def __init__(self, url: str, *, width: int = 1200, height: int = 900) -> None:
        self.url = url
        self.driver = Chrome(_options(), ChromeService(_program("chromedriver")))
        self.size(width, height)

    def size(self, width: int, height: int) -> None:
        """The size of the viewport, in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, dark: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def visit(self, fragment: str = "#/playground") -> None:
        """Open a view in a fresh document."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/{fragment}")

    def one(self, selector: str) -> WebElement:
        """The first element, once it is there."""
        return self.until(lambda: next(iter(self.all(selector)), None), f"no {selector}")

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        return self.one(selector).text

    def write(self, selector: str, text: str) -> None:
        """Take the place of a field's content, as pasting does."""
        field = self.one(selector)
        field.clear()
        field.send_keys(text)

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def reads(self, expected: str, selector: str = "main") -> str:
        """The text of ``selector``, once ``wanted`` is in it."""
        return self.until(
            lambda: text if expected in (text := self.text(selector)) else None,
            lambda: f"no {expected!r} in:\n{self.text(selector)}",
        )

    def until(self, look: Callable[[], T | None], failure: str | Callable[[], str]) -> T:
        from selenium.common.exceptions import StaleElementReferenceException, TimeoutException

        wait = WebDriverWait(self.driver, PATIENCE, 0.05, (StaleElementReferenceException,))
        try:
            result: T = wait.until(lambda _: look())
        except TimeoutException:
            message = failure if isinstance(failure, str) else failure()
            raise AssertionError(f"{message}\n{self.complaints()}") from None
        return result

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)

    def complaints(self) -> list[str]:
        """What the browser's console says is wrong, blocked scripts and styles included; not each error response."""
        severe = [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [entry["message"] for entry in severe if "the server responded with a status" not in entry["message"]]

    def picture(self, name: str) -> None:
        """Keep what is on the screen for the documentation, where `SCREENSHOTS` is set: pixels differ by machine."""
        if os.environ.get("SCREENSHOTS"):
            ASSETS.mkdir(exist_ok=True)
            self.driver.save_screenshot(str(ASSETS / f"{name}.png"))

    def close(self) -> None:
        self.driver.quit()


def _options() -> ChromeOptions:
    options = ChromeOptions()
    options.binary_location = _program("chromium")
    # Containers have neither the namespaces of its sandbox nor a large /dev/shm.
    for switch in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return options


def _program(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} is missing: `make .cache/chromium` installs Debian's package"
    return path
