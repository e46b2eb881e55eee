"""Startup time until the first view in a browser, compared with a minimal Gradio app that imports torch."""

import os
import socket
import subprocess
import sys
import time
from statistics import median

from playwright.sync_api import Browser, Error

from tests.browser import chromium

ROUNDS = 5

HELLO = """
import os
import torch
import gradio as gr
with gr.Blocks(analytics_enabled=False) as demo:
    gr.Button("Train")
demo.launch(server_port=int(os.environ["PORT"]), ssr_mode=False)
"""


def run() -> None:
    """Start both apps alternately. The first view is the page with its Train button; the chart follows."""
    with chromium() as browser:
        rounds = [(_seconds(browser, ["app.py"]), _seconds(browser, ["-c", HELLO], chart=False)) for _ in range(ROUNDS)]
    for part, what in enumerate(
        ("from the command to Train", "from the open port to Train", "from Train to the chart")
    ):
        ours = [mine[part] for mine, _ in rounds]
        if part == 2:
            print(f"  {what}, first chart of the process: {median(ours):.2f} s")
            return
        hello = [other[part] for _, other in rounds]
        ratio = median(a / b for a, b in zip(ours, hello, strict=True))
        print(
            f"  {what}: {median(ours):.2f} s, baseline {median(hello):.2f} s, ratio {ratio:.2f} (medians of {ROUNDS})"
        )


def _seconds(browser: Browser, command: list[str], *, chart: bool = True) -> tuple[float, float, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    context = browser.new_context()  # with an empty cache
    page = context.new_page()
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.DEVNULL)
    try:
        while not _listens(port):
            time.sleep(0.01)
        served = time.monotonic()
        while True:
            try:
                page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
                break
            except Error:  # the port opens before the app responds
                time.sleep(0.01)
        page.get_by_role("button", name="Train", exact=True).wait_for()
        seen = time.monotonic()
        if chart:
            page.locator(".bk-Figure canvas").first.wait_for()
        drawn = time.monotonic()
    finally:
        context.close()
        process.terminate()
        process.wait()
    return seen - start, seen - served, drawn - seen


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
