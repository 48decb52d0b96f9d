"""A real browser for tests: headless Chromium. Tests that use it are skipped where there is none.

On Debian: ``apt-get install chromium chromium-driver``; the Python side comes with the group dev.
"""

import shutil
from contextlib import contextmanager

import pytest

# Chromium has the first name on Debian and the last one as Google builds it.
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def open_browser(width=1280, height=800, phone=False):
    """Open a browser without a profile; skip the test where there is none.

    Args:
        width: Of the page, in CSS pixels.
        height: Likewise.
        phone: Emulate a phone: touch, and two screen pixels per CSS pixel.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no Chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    page = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        page.set_page_load_timeout(30)
        page.set_script_timeout(30)
        screen = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**screen, "mobile": phone})
        if phone:
            page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        yield page
    finally:
        page.quit()


def complaints(page):
    """Return what the browser has complained of since the last call: errors and refused loads."""
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
