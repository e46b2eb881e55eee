"""Each shipped net.onnx computes what torch does, on every runtime that there is for it here."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from playwright.sync_api import Browser

from export import formats, layout, manifest, parity
from export.cases import Parity
from export.layout import GOLDEN, find
from export.parity import Float32, Reference
from export.torch_onnx import OPSET
from export.verify import rebuild
from nets import TRAININGS
from tests import runtimes
from tests.runtimes import Ran, needed

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"
FOLDERS = find(CHECKPOINTS)

Answers = dict[str, dict[str, Reference]]
Agrees = Callable[[Ran], None]


@pytest.fixture(scope="session")
def answers() -> Answers:
    """What torch says to the recorded inputs, by net and case."""
    found = {}
    for folder in FOLDERS:
        described, contents = manifest.read(folder)
        rebuilt, _ = rebuild(described, contents)
        with np.load(io.BytesIO(contents[GOLDEN])) as golden:
            cases = {key.removeprefix("x_"): golden[key] for key in golden if key.startswith("x_")}
        classifies = bool(TRAININGS[described["lesson"]].classes)
        found[folder.relative_to(CHECKPOINTS).as_posix()] = parity.references(
            rebuilt.learner.net, cases, classifies=classifies
        )
    return found


def compare(outputs: dict[str, Float32], answers: Answers) -> dict[str, Parity]:
    """Each net's outputs, held to the bound for other runtimes than torch."""
    return {
        net: Parity(
            tuple(
                parity.compare_outputs(layout.ONNX, case, outputs[f"{net}/{case}"], answer, exactly=False)
                for case, answer in cases.items()
            )
        )
        for net, cases in answers.items()
    }


@pytest.fixture
def agrees(answers: Answers, record_property: Callable[[str, object], None]) -> Agrees:
    """agrees(ran) asserts that every net does, and hands the table at the run's end (conftest.py) a column."""

    def check(ran: Ran) -> None:
        compared = compare(ran.outputs, answers)
        rows = {
            net: f"{each.worst('train')} {each.worst('far')}" if each.passed else "disagrees"
            for net, each in compared.items()
        }
        record_property("conformance", {"runtime": ran.runtime, "rows": rows})
        assert {net: each.summary for net, each in compared.items() if not each.passed} == {}

    return check


def test_onnxruntime_agrees_with_torch(agrees: Agrees) -> None:
    agrees(runtimes.in_onnxruntime(CHECKPOINTS))


def test_the_oldest_onnxruntime_agrees_with_torch(agrees: Agrees, tmp_path: Path) -> None:
    needed(runtimes.OLDEST / "installed", "the oldest onnxruntime")
    agrees(runtimes.in_oldest(CHECKPOINTS, tmp_path / "outputs.npz"))


def test_onnxs_reference_evaluator_agrees_with_torch(agrees: Agrees) -> None:
    agrees(runtimes.in_reference(CHECKPOINTS))


def test_onnxruntime_web_agrees_with_torch(agrees: Agrees, browser: Browser) -> None:
    needed(runtimes.WEB, "onnxruntime-web")
    agrees(runtimes.in_browser(CHECKPOINTS, browser))


def test_the_script_of_try_html_agrees_with_torch(agrees: Agrees) -> None:
    agrees(runtimes.in_page(CHECKPOINTS))


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        ("train_17", lambda y: y * np.float32(1.01)),
        ("far_1024", lambda y: y * np.float32(1.01)),
        ("train_2", lambda y: np.where(y == y.max(), np.float32(np.nan), y)),
        ("special_4", np.nan_to_num),
        ("train_1", lambda y: y[0]),
        ("train_1024", lambda y: y.astype(np.float64)),
    ],
    ids=["near", "far", "NaN", "no NaN", "shape", "dtype"],
)
def test_a_runtime_with_one_wrong_answer_would_be_noticed(
    answers: Answers, case: str, wrong: Callable[[Float32], Float32]
) -> None:
    for net, cases in answers.items():
        outputs = {f"{each}/{name}": answer.y for each in answers for name, answer in answers[each].items()}
        outputs[f"{net}/{case}"] = wrong(cases[case].y)
        compared = compare(outputs, answers)
        assert [each for each in compared if not compared[each].passed] == [net]
        assert [each.case for each in compared[net].cases if not each.passed] == [case]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(CHECKPOINTS).as_posix())
def test_a_shipped_net_is_plain_onnx_of_the_promised_versions(folder: Path) -> None:
    content = (folder / layout.ONNX).read_bytes()
    model = formats.parsed(content)  # refuses other domains, and tensors that lie in other files
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    assert (OPSET, model.ir_version) == (17, 8)
    schemas = [onnx.defs.get_schema(node.op_type, OPSET) for node in model.graph.node]  # raises for those of later sets
    assert not any(schema.deprecated for schema in schemas)
    onnx.checker.check_model(content, full_check=True)
