"""What the page says and offers, without a browser."""

import asyncio
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from starlette.datastructures import Headers
from tabs.downloads import LABELS, Downloads
from tabs.training_tab import TrainingTab

from charts.text import Text, said
from export import bundle, formats, layout
from export.bundle import Bundle
from export.graph import onnx_bytes
from export.snippets import snippets
from lab.settings import SettingError
from nets import TRAININGS
from nets.regression import Net
from runs import registry
from runs.engine import EncodedFrame
from runs.pool import LostError
from runs.run import LOST, SILENT, Frame, Run, State
from tabs import live
from tabs.controls import error_message, speed_of
from tests.conftest import Train
from tests.test_runs import go

LESSON = TRAININGS["regression"]


def frame(state: State, metrics: dict[str, float] | None = None, message: Text = SILENT) -> Frame:
    return Frame(1, state, 100, EncodedFrame(7, metrics or {"loss": 0.25}, "{}", None), message)


@pytest.mark.parametrize(
    ("state", "english", "chinese"),
    [
        (State.IDLE, "Ready: 100 steps · loss 0.2500", "准备就绪：共 100 步 · 损失 0.2500"),
        (State.RUNNING, "Step 7 of 100 · loss 0.2500", "第 7 步，共 100 步 · 损失 0.2500"),
        (State.PAUSED, "Paused at step 7 of 100 · loss 0.2500", "暂停在第 7 步，共 100 步 · 损失 0.2500"),
        (State.DONE, "Stopped at step 7 of 100 · loss 0.2500", "停在第 7 步，共 100 步 · 损失 0.2500"),
    ],
)
def test_every_state_is_told_in_a_line(state: State, english: str, chinese: str) -> None:
    assert live.describe(frame(state), LESSON.metrics) == Text(english, chinese)


@pytest.mark.parametrize("state", [State.DIVERGED, State.ERROR])
def test_a_run_that_ended_badly_says_why(state: State) -> None:
    assert live.describe(frame(state, message=Text("why", "为什么")), LESSON.metrics) == Text("why", "为什么")


def test_metrics_are_told_as_people_read_them() -> None:
    metrics = {"loss": 0.0000123, "other": 123456.0, "accuracy": 0.985, "zero": 0.0, "lost": math.nan}
    told = live.describe(frame(State.RUNNING, metrics), {name: name for name in metrics}).en.split(" · ")[1:]
    assert told == ["loss 1.23e-05", "other 1.23e+05", "accuracy 98.5%", "zero 0", "lost not a finite number"]


def test_a_frame_carries_only_what_moved() -> None:
    async def story() -> None:
        run = await Run.create(LESSON.recipe())
        assert set(json.loads(live.frame(LESSON, run.frame))["arrays"]) >= {"0.0.x", "0.1.y", "1.0.x", "1.0.y"}
        moved = json.loads(live.frame(LESSON, await run.step()))
        assert set(moved["arrays"]) == {"0.1.y", "1.0.x", "1.0.y"}  # the fit and the loss curve
        assert (moved["run"], moved["step"], moved["state"]) == (run.chart_setup.frame.run, 1, "paused")

    go(story())


@pytest.fixture
def part() -> Downloads:
    async def build() -> Downloads:  # in an event loop, or Blocks would make one and never close it
        with gr.Blocks():
            return Downloads(LESSON)

    return go(build())


def visitor(name: str) -> gr.Request:
    return gr.Request(session_hash=name, client=SimpleNamespace(host="127.0.0.1"), headers=Headers())


async def tab_with_a_run(name: str) -> tuple[TrainingTab, Run]:
    with gr.Blocks():
        tab = TrainingTab(LESSON, gr.Textbox())
    run = await Run.create(LESSON.recipe())
    registry.put(name, run)
    return tab, run


def test_a_reset_to_bad_settings_keeps_the_run() -> None:
    async def story() -> None:
        tab, run = await tab_with_a_run("resetting")
        good = list(LESSON.config().to_dict().values())
        refused = await tab.reset(visitor("resetting"), 1, 11, *good[1:])
        assert json.loads(refused[0]["value"])["text"] == {
            "en": "Learning rate must be a number from 0.0001 to 10, not 11.",
            "zh": "学习率必须是 0.0001 到 10 之间的数，不能是 11。",
        }
        assert registry.current("resetting", "regression") is run
        await tab.reset(visitor("resetting"), 1, *good)
        assert registry.current("resetting", "regression") is None

    go(story())


def test_a_stream_always_answers_even_of_a_run_that_is_reset_before_its_first_frame() -> None:
    async def story() -> None:
        tab, run = await tab_with_a_run("leaving")
        assert [each async for each in tab.stream(visitor("leaving"))] == [gr.skip()]  # not started
        run.start()
        frames = tab.stream(visitor("leaving"))
        first = asyncio.ensure_future(anext(frames))
        await asyncio.sleep(0)  # the stream has begun, and waits for its first frame
        registry.discard("leaving", "regression")
        assert await first == gr.skip()
        assert [each async for each in frames] == []

    go(story())


def told_by(update: Any) -> str:
    value = update["value"] if isinstance(update, dict) else update
    return str(json.loads(value)["text"]["en"])


@pytest.mark.parametrize("lost", [True, False])
def test_a_figure_of_a_run_that_is_gone_is_not_drawn_of_another(lost: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        tab, run = await tab_with_a_run("gone")
        await run.step()
        if lost:

            async def call(*arguments: object) -> None:
                raise LostError("the worker is gone")

            monkeypatch.setattr(run._client, "call", call)
        else:
            run.end(registry.PUT_AWAY)
        values = [1, *LESSON.config().to_dict().values()]
        for _ in range(2):  # it says so again
            chart, files = await tab.save_figure(visitor("gone"), "en", *values)
            assert told_by(chart) == (LOST.en if lost else registry.PUT_AWAY.en)
            assert files == gr.skip()
        monkeypatch.undo()
        registry.close("gone")

    go(story())


def test_another_view_of_a_run_that_is_gone_says_why_and_keeps_the_picture() -> None:
    async def story() -> None:
        lesson = TRAININGS["optimizers"]
        with gr.Blocks():
            tab = TrainingTab(lesson, gr.Textbox())
        run = await Run.create(lesson.recipe())
        registry.put("viewing", run)
        await run.step()
        run.end(registry.PUT_AWAY)
        values = lesson.config.parse({"scale": "log"}).to_dict().values()
        shown = json.loads(await tab.preview(visitor("viewing"), 1, *values))
        assert (shown["text"]["en"], shown["step"]) == (registry.PUT_AWAY.en, 1)
        registry.close("viewing")

    go(story())


def by_label(part: Downloads, updates: list[Any]) -> dict[str, Any]:
    labels = ["report", "zip", *LABELS.values(), "details"]
    assert len(updates) == len(part.components)
    return dict(zip(labels, updates, strict=True))


def offered_by(part: Downloads, bundles: list[Bundle], folder: Path) -> list[Any]:
    return part.offered(bundles, bundle.archive(bundles), folder)


def test_all_that_passed_is_offered(part: Downloads, train: Train, tmp_path: Path) -> None:
    offered = by_label(part, offered_by(part, bundle.write(train("regression"), tmp_path), tmp_path))
    assert all(update["visible"] for update in offered.values())
    assert Path(offered["ONNX"]["value"]).read_bytes() == (tmp_path / "regression" / "net.onnx").read_bytes()


def test_a_file_that_failed_parity_is_withheld_and_the_worst_input_told(
    part: Downloads, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = onnx_bytes(Net(1, 10, 1), torch.zeros(2, 1))
    monkeypatch.setattr(formats, "onnx_bytes", lambda net, x, metadata: other)
    offered = by_label(part, offered_by(part, bundle.write(train("regression"), tmp_path), tmp_path))
    assert not offered["ONNX"]["visible"]
    assert all(offered[label]["visible"] for label in ("zip", "state_dict", "safetensors", "Pickle"))
    report = offered["report"]["value"]
    assert "1 of 4 files do not agree with the net: net.onnx" in report
    assert "Files that do not agree are not offered." in report
    details = offered["details"]["value"]
    assert "worst at x = (" in details
    assert "The ONNX graph" not in details
    assert "onnxruntime" not in details


def test_what_is_offered_is_shown_without_leaving_the_tab(part: Downloads, train: Train, tmp_path: Path) -> None:
    offered = by_label(part, offered_by(part, bundle.write(train("regression"), tmp_path), tmp_path))
    details = offered["details"]["value"]
    assert "3 operators, 31 parameters" in details
    assert ">Gemm hidden</text>" in details
    for each in snippets(
        json.loads((tmp_path / "regression" / "manifest.json").read_text(encoding="utf-8")), layout.MODEL_FILES
    ):
        assert said(each.title, "en") in details
        assert said(each.title, "zh") in details
    # Code with comments in either language; C++ and the web page have nothing to install.
    assert details.count("data-copy") == 2 * 8 + 6


def test_nets_with_the_same_graph_have_it_drawn_once(part: Downloads, train: Train, tmp_path: Path) -> None:
    offered = by_label(part, offered_by(part, bundle.write(train("optimizers"), tmp_path), tmp_path))
    assert "The ONNX graph: sgd, momentum, rmsprop, adam" in offered["details"]["value"]


def test_several_nets_leave_in_one_zip(part: Downloads, train: Train, tmp_path: Path) -> None:
    (one,) = bundle.write(train("regression"), tmp_path)
    nets = [Bundle(one.folder, {**one.manifest, "net": name, "nets": ["a", "b"]}, one.parity) for name in "ab"]
    offered = by_label(part, offered_by(part, nets, tmp_path))
    assert offered["zip"]["visible"]
    assert not any(offered[label]["visible"] for label in LABELS.values())
    assert offered["report"]["value"].count('class="verdict passed"') == 2
    details = offered["details"]["value"]
    assert "The ONNX graph: a, b" in details  # drawn once, since both nets have it
    assert "All comparisons: a" in details
    assert "All comparisons: b" in details


BAD_SPEEDS: list[object] = [True, 1.0, 3, -1, "1", None, [1], math.nan, 10**5000]


@pytest.mark.parametrize("speed", BAD_SPEEDS, ids=lambda value: type(value).__name__)
def test_a_speed_that_is_not_on_offer_is_refused(speed: object) -> None:
    with pytest.raises(SettingError, match=r"^speed must be one of 1, 2, 5, 20, 0, not "):
        speed_of(speed)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"points": 1}, "Points must be a whole number from 2 to 1000, not 1."),
        ({"noise": None}, "Noise must be a number from 0 to 1, not empty."),
        ({"noise": ""}, "Noise must be a number from 0 to 1, not empty."),
    ],
)
def test_the_page_names_a_setting_by_its_label(settings: dict[str, object], line: str) -> None:
    with pytest.raises(SettingError) as error:
        LESSON.config.parse(settings)
    assert error_message(error.value, LESSON).en == line
