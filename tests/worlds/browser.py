"""A real Chromium on a page, and what a person sees and does there."""

import shutil
import time
from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class Browser:
    """Chromium on a page; what it says is what a person sees."""

    def __init__(self, address: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(str(DRIVER))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_window_size(1280, 800)
        self.driver.get(address)
        if address.startswith("http"):
            self.until(lambda: self.text("question") or self.text("waiting"))

    def until(self, holds: Callable[[], Any], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.driver.find_element("tag name", "body").text
            time.sleep(0.02)

    def find(self, name: str) -> WebElement:
        return self.driver.find_element("id", name)

    def text(self, name: str) -> str:
        return self.find(name).text

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def resize(self, width: int, height: int = 800) -> None:
        """Be a screen of another size; windows cannot be as narrow as telephones."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def shown(self) -> str:
        """Return the id of the image that is asked about."""
        source = self.find("image").get_attribute("src") or ""
        return source.rpartition("/")[2].partition("?")[0]

    def wait_until_saved(self) -> None:
        self.until(lambda: self.text("saved") == "All saved")

    def complaints(self) -> list[str]:
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def script(self, text: str) -> Any:
        return self.driver.execute_script(text)
