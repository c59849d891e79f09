"""Take the README's pictures: `make pictures`. Needs Debian's chromium and chromium-driver.

Starts the whole stack in a HOME of its own, runs the sample batch, photographs the asset graph
and the contact sheet in a headless browser, and stops everything.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ASSETGEN = str(Path(sys.executable).parent / "assetgen")
SAMPLE = str(ROOT / "assetgen_pipeline" / "data" / "samples" / "storyboard.csv")
_LAST_ASSET = "batch_costs"


def browser(profile, *, width, height):
    """Debian's Chromium, headless, with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def photograph(address, target, *, width, height, ready):
    """Wait until the page shows what it should, and keep it."""
    with tempfile.TemporaryDirectory() as profile:
        chrome = browser(profile, width=width, height=height)
        try:
            chrome.get(address)
            WebDriverWait(chrome, 60).until(ready)
            # The graph glides into place; its picture is taken once two frames are the same.
            former = b""
            for _ in range(50):
                frame = chrome.get_screenshot_as_png()
                if frame == former:
                    break
                former = frame
            target.write_bytes(frame)
        finally:
            chrome.quit()


def shows_the_graph(chrome):
    return _LAST_ASSET in chrome.find_element(By.TAG_NAME, "body").text


def shows_pictures(chrome):
    script = "return [...document.images].filter(i => i.complete && i.naturalWidth).length"
    return chrome.execute_script(script) >= 1


def main():
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "ASSETGEN_HOME": f"{folder}/home"}
        stack = subprocess.Popen(
            [ASSETGEN, "up", "--json"], env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            text = ""
            while not text.endswith("}\n"):
                text += stack.stdout.readline()
            where = json.loads(text)
            submit = [ASSETGEN, "submit", SAMPLE, "--owner", "ada", "--watch", "--json"]
            status = json.loads(subprocess.check_output(submit, env=environment, text=True))
            results = [ASSETGEN, "results", status["batch_id"], "-o", f"{folder}/results"]
            subprocess.run(results, env=environment, check=True, stdout=subprocess.DEVNULL)
            photograph(
                where["graph"],
                HERE / "asset-graph.png",
                width=1900,
                height=760,
                ready=shows_the_graph,
            )
        finally:
            stack.terminate()
            stack.wait()
        photograph(
            f"file://{folder}/results/contact-sheet.html",
            HERE / "contact-sheet.png",
            width=1200,
            height=900,
            ready=shows_pictures,
        )


if __name__ == "__main__":
    main()
