"""Frame rate in a browser at a target of 25 frames per second, compared with gr.Plot and matplotlib."""

import asyncio
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import gradio as gr
from playwright.sync_api import Page

from charts import figure
from lab.training import Trainer
from nets.regression import LESSON
from tests.browser import chromium

FRAMES = 100
ROUNDS = 3

# Counts painted frames: for our chart, animation frames in which the canvas was drawn on and the step had changed;
# for gr.Plot, loaded images.
COUNT = """
() => {
  window.painted = [];
  let drawn = false, step = null;
  const stroke = CanvasRenderingContext2D.prototype.stroke;
  CanvasRenderingContext2D.prototype.stroke = function (...path) { drawn = true; return stroke.apply(this, path); };
  const look = () => {
    const now = document.querySelector('[data-lesson="regression"]')?.dataset.step ?? null;
    if (drawn && now !== step) { step = now; window.painted.push(performance.now()); }
    drawn = false;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  document.addEventListener("load", ({ target }) => {
    if (target.tagName === "IMG") window.painted.push(performance.now());
  }, true);
}
"""


def run() -> None:
    """Train for 100 frames, several times, and print the median rate."""
    apps = (
        ("ours", ["app.py"], ".bk-Figure", '[data-state="done"]'),
        ("gr.Plot", ["-m", "benchmarks.painting"], "button", "text=The run is over"),
    )
    for name, command, ready, done in apps:
        with serve(command) as url, chromium() as browser:
            rates, sizes = zip(*(_watch(browser.new_page(), url, ready, done) for _ in range(ROUNDS)), strict=True)
            print(f"  {name}: {median(rates):.1f} frames/s painted, {median(sizes):.0f} bytes per frame transferred")


def _watch(page: Page, url: str, ready: str, done: str) -> tuple[float, float]:
    received: list[int] = []
    page.set_default_timeout(180_000)  # the baseline is slow
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    page.goto(url)
    page.locator(ready).first.wait_for()
    session.on("Network.dataReceived", lambda event: received.append(event["dataLength"]))
    session.on("Network.webSocketFrameReceived", lambda event: received.append(len(event["response"]["payloadData"])))
    page.evaluate(COUNT)
    page.get_by_role("button", name="Train").click()
    page.locator(done).wait_for()
    times = page.evaluate("window.painted")
    page.close()
    return (len(times) - 1) / (times[-1] - times[0]) * 1000, sum(received) / FRAMES


@contextmanager
def serve(command: list[str]) -> Iterator[str]:
    """The URL of an app, started with that command of Python."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PORT": str(port)}
    process = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}/"
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if f":{port}".encode() in line:
                break
        urllib.request.urlopen(url, timeout=30).close()  # our own server
        yield url
    finally:
        process.terminate()
        process.communicate()


def baseline_app() -> gr.Blocks:
    """Baseline: a generator that yields matplotlib figures, as in Gradio's examples."""

    async def train() -> AsyncIterator[tuple[Any, str]]:
        trainer = Trainer(LESSON, LESSON.recipe())
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not trainer.done:
            due = max(due + 1 / 25, loop.time())
            trainer.step()
            yield figure.draw(trainer.snapshot().chart), ""
            await asyncio.sleep(due - loop.time())
        yield figure.draw(trainer.snapshot().chart), "The run is over"

    with gr.Blocks(analytics_enabled=False) as demo:
        button, plot, state = gr.Button("Train"), gr.Plot(), gr.Markdown()
        button.click(train, None, [plot, state], show_progress="hidden")
    assert isinstance(demo, gr.Blocks)
    return demo


if __name__ == "__main__":
    baseline_app().launch(server_port=int(os.environ["PORT"]), ssr_mode=False)
