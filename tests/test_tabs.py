"""What the page says and offers, without a browser."""

import json
import math
from pathlib import Path

import pytest
import torch

from charts.text import Text, said
from export import bundle, formats, layout
from export.bundle import Bundle
from export.graph import onnx_bytes
from export.snippets import snippets
from lab.settings import SettingError
from nets import TRAININGS, read_recipe
from nets.regression import Net
from runs.engine import EncodedFrame
from runs.run import SILENT, Frame, Run, State
from tabs import live, run_files
from tabs.controls import error_message, speed_of
from tabs.run_files import ARCHIVE, LABELS, Exported
from tests.conftest import Train
from tests.test_runs import go

LESSON = TRAININGS["regression"]


def frame(state: State, metrics: dict[str, float] | None = None, message: Text = SILENT) -> Frame:
    return Frame(
        1, state, 100, EncodedFrame(7, metrics or {"loss": 0.25}, '{"arrays": {}, "notes": ""}', None), message
    )


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
        assert set(json.loads(run.chart_setup.frame.encoded.body)["arrays"]) >= {"0.0.x", "0.1.y", "1.0.x", "1.0.y"}
        message = json.loads(live.frame(3, LESSON, await run.step()))
        assert (message["lesson"], message["run"]) == ("regression", 3)
        moved = message["frame"]
        assert set(moved["arrays"]) == {"0.1.y", "1.0.x", "1.0.y"}  # the fit and the loss curve
        assert (moved["step"], moved["state"], moved["metrics"]) == (1, "paused", run.frame.encoded.metrics)

    go(story())


def test_the_message_that_shows_a_run_has_the_chart_its_first_frame_and_the_current_one() -> None:
    async def story() -> None:
        run = await Run.create(LESSON.recipe())
        await run.step()
        shown = json.loads(live.start("key", 7, run.recipe, run.chart_setup, LESSON, run.frame))
        assert (shown["lesson"], shown["run"], shown["base"]["step"], shown["frame"]["step"]) == ("regression", 7, 0, 1)
        assert read_recipe(shown["recipe"]) == run.recipe
        assert shown["structure"] == run.chart_setup.structure
        assert {*shown["frame"]["arrays"]} < {*shown["base"]["arrays"]}
        again = json.loads(live.start("key", 7, run.recipe, run.chart_setup, LESSON, structure=False))
        assert {*shown} - {*again} == {"structure", "frame"}

    go(story())


def test_a_number_that_is_not_finite_is_sent_as_nothing() -> None:
    shown = json.loads(live.frame(1, LESSON, frame(State.DIVERGED, {"loss": math.inf}, Text("why", "为什么"))))
    assert shown["frame"]["metrics"] == {"loss": None}


def test_a_run_in_line_is_told_its_place() -> None:
    shown = json.loads(live.waiting(1, LESSON, frame(State.RUNNING), 3))
    assert "You are number 3 in line" in shown["frame"]["text"]["en"]
    assert shown["frame"]["state"] == "running"


def offered_by(key: str, bundles: list[Bundle], folder: Path) -> Exported:
    (folder / "offered").mkdir()
    return run_files._offered(TRAININGS[key], bundles, bundle.archive(bundles), folder / "offered")


def test_all_that_passed_is_offered(train: Train, tmp_path: Path) -> None:
    offered = offered_by("regression", bundle.write(train("regression"), tmp_path), tmp_path)
    assert [*offered.files] == [ARCHIVE, *LABELS]
    assert offered.files["net.onnx"].read_bytes() == (tmp_path / "regression" / "net.onnx").read_bytes()
    shown = run_files.offer(LESSON.recipe(), "zh", offered)
    assert shown.count('href="files/regression/') == 5
    assert "files/regression/net.onnx?learning_rate=0.5&amp;steps=100&amp;" in shown
    assert "language=zh" in shown


def test_a_file_that_failed_parity_is_withheld_and_the_worst_input_told(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = onnx_bytes(Net(1, 10, 1), torch.zeros(2, 1))
    monkeypatch.setattr(formats, "onnx_bytes", lambda net, x, metadata: other)
    offered = offered_by("regression", bundle.write(train("regression"), tmp_path), tmp_path)
    assert [*offered.files] == [ARCHIVE, *(name for name in LABELS if name != "net.onnx")]
    assert "1 of 4 files do not agree with the net: net.onnx" in offered.verdicts
    assert "Files that do not agree are not offered." in offered.verdicts
    assert "worst at x = (" in offered.details
    assert "The ONNX graph" not in offered.details
    assert "onnxruntime" not in offered.details


def test_what_is_offered_is_shown_without_leaving_the_tab(train: Train, tmp_path: Path) -> None:
    details = offered_by("regression", bundle.write(train("regression"), tmp_path), tmp_path).details
    assert "3 operators, 31 parameters" in details
    assert ">Gemm hidden</text>" in details
    for each in snippets(
        json.loads((tmp_path / "regression" / "manifest.json").read_text(encoding="utf-8")), layout.MODEL_FILES
    ):
        assert said(each.title, "en") in details
        assert said(each.title, "zh") in details
    # Code with comments in either language; C++ and the web page have nothing to install.
    assert details.count("data-copy") == 2 * 8 + 6


def test_nets_with_the_same_graph_have_it_drawn_once(train: Train, tmp_path: Path) -> None:
    offered = offered_by("optimizers", bundle.write(train("optimizers"), tmp_path), tmp_path)
    assert "The ONNX graph: sgd, momentum, rmsprop, adam" in offered.details


def test_several_nets_leave_in_one_zip(train: Train, tmp_path: Path) -> None:
    (one,) = bundle.write(train("regression"), tmp_path)
    nets = [Bundle(one.folder, {**one.manifest, "net": name, "nets": ["a", "b"]}, one.parity) for name in "ab"]
    offered = offered_by("regression", nets, tmp_path)
    assert [*offered.files] == [ARCHIVE]
    assert offered.verdicts.count('class="verdict passed"') == 2
    assert "The ONNX graph: a, b" in offered.details  # drawn once, since both nets have it
    assert "All comparisons: a" in offered.details
    assert "All comparisons: b" in offered.details


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
