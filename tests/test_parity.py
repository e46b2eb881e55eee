"""Parity passes what is right and catches what is wrong, whatever the magnitude."""

import copy
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from export import formats, layout, parity
from export.cases import Case, ExportError, Parity
from export.parity import Float32
from nets import TRAININGS
from tests.conftest import Train
from tests.corruptions import CORRUPTIONS, Corruption, compared

keys = pytest.mark.parametrize("key", TRAININGS)

Change = Callable[[nn.Module], None]


def compare(net: nn.Module, x: torch.Tensor, exported: nn.Module) -> list[Case]:
    """The ONNX file of `exported`, held against `net`."""
    content = formats.write(layout.ONNX, exported, x)
    predict = formats.read(layout.ONNX, content, net).predict
    return parity.compare("net.onnx", predict, parity.references(net, parity.inputs(x)), exactly=False)


@keys
def test_a_faithful_onnx_file_raises_no_alarm_and_leaves_room(key: str, train: Train) -> None:
    for seed in range(10):  # fifty, trained to the end, are measured by benchmarks/exporting.py
        trainer = train(key, seed=seed)
        for learner in trainer.learners:
            cases = compare(learner.net, trainer.experiment.train.x, learner.net)
            assert len(cases) == 9
            assert [case for case in cases if not case.passed] == []
            assert max(case.share for case in cases) < 0.75


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.label)
def test_what_is_wrong_with_a_file_is_caught(corruption: Corruption, train: Train) -> None:
    steps = 200 if corruption.learner == "batch_norm" else 20  # at first its statistics are those of one batch
    failed = [case for case in compared(train(corruption.lesson, steps=steps), corruption) if not case.passed]
    assert corruption.caught_by <= {case.case if not case.shape else "outputs" for case in failed}


def round_to_half(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.data = parameter.data.half().float()


def swap_rows_of_last_layer(net: nn.Module) -> None:
    last = list(net.modules())[-1]
    assert isinstance(last, nn.Linear)
    last.weight.data = last.weight.data.flip(1)


def nudge_a_bias(net: nn.Module) -> None:
    last = list(net.modules())[-1]
    assert isinstance(last, nn.Linear)
    last.bias.data[0] += 1e-4


@keys
@pytest.mark.parametrize("change", [round_to_half, swap_rows_of_last_layer, nudge_a_bias])
def test_a_changed_net_is_caught_and_the_worst_input_named(key: str, change: Change, train: Train) -> None:
    trainer = train(key)
    net = trainer.learners[0].net
    changed = copy.deepcopy(net)
    change(changed)
    failed = [case for case in compare(net, trainer.experiment.train.x, changed) if not case.passed]
    assert failed
    assert all("worst at x = (" in case.why for case in failed)


def faulty(fault: Callable[[Float32], Float32], train: Train) -> list[Case]:
    """What becomes of torch's own outputs with a fault put in."""
    trainer = train("classification")
    net = trainer.learners[0].net
    answers = parity.references(net, parity.inputs(trainer.experiment.train.x))

    def predict(x: Float32) -> Float32:
        with torch.no_grad():
            return fault(net(torch.from_numpy(x)).numpy())

    return parity.compare("net.onnx", predict, answers, exactly=False)


def test_torchs_own_outputs_pass(train: Train) -> None:
    assert all(case.passed for case in faulty(lambda y: y, train))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda y: y[:, ::-1].copy(), "times float32's own error"),
        (lambda y: y.astype(np.float64), "returns float64"),
        (lambda y: y[:, :1], r"returns float32 \(\d+, 1\) where torch returns float32 \(\d+, 2\)"),
        (lambda y: np.nan_to_num(y), "NaN or infinity in different places, first at x ="),
        (lambda y: np.where(np.isnan(y), y, np.float32("inf")), "NaN or infinity in different places"),
    ],
    ids=["outputs swapped", "other dtype", "other shape", "NaN lost", "infinities made"],
)
def test_a_faulty_runtime_is_caught(fault: Callable[[Float32], Float32], why: str, train: Train) -> None:
    reasons = [case.why for case in faulty(fault, train) if not case.passed]
    assert reasons
    assert all(re.search(why, reason) for reason in reasons)


def test_exactly_means_the_last_bit(train: Train) -> None:
    trainer = train("regression")
    net = trainer.learners[0].net
    answers = parity.references(net, parity.inputs(trainer.experiment.train.x))
    answer = answers["train_17"]
    off = np.nextafter(answer.y, np.float32(9))
    assert parity.compare_outputs("net.pkl", "train_17", answer.y, answer, exactly=True).passed
    assert not parity.compare_outputs("net.pkl", "train_17", off, answer, exactly=True).passed
    assert parity.compare_outputs("net.onnx", "train_17", off, answer, exactly=False).passed


def test_every_case_tells_what_was_measured_the_bound_and_why(train: Train) -> None:
    for case in faulty(lambda y: y, train):
        assert case.measured is not None
        assert case.bound is not None
        assert case.measured <= case.bound
        assert re.fullmatch(r"[\d.e-]+ times float32's own error, 16 allowed", case.why)


def test_a_classifier_that_chooses_another_class_is_caught_though_its_scores_are_near() -> None:
    x, y = np.zeros((1, 1), np.float32), np.array([[1.0, 0.0]], np.float32)
    near = np.array([[0.0, 1e-7]], np.float32)

    def verdict(gap: float, *, classifies: bool = True) -> Case:
        exact = np.array([[gap, 0.0]])
        answer = parity.Reference(x, y * np.float32(gap), exact, np.full((1, 2), 0.1), classifies)
        return parity.compare_outputs("net.onnx", "train_1", near, answer, exactly=False)

    assert verdict(0.5).why == "chooses class 1 where torch chooses 0, at x = (0)"
    assert verdict(0.5, classifies=False).passed
    assert verdict(0.15).passed  # float32 itself cannot tell these two apart


def test_inputs_cover_every_batch_near_and_far_and_are_the_same_each_time() -> None:
    x = torch.tensor([[-1.0, 5.0], [1.0, 9.0]])
    cases = parity.inputs(x)
    assert [len(cases[f"{name}_{batch}"]) for name in ("train", "far") for batch in parity.BATCHES] == [
        *(1, 2, 17, 1024),
        *(1, 2, 17, 1024),
    ]
    assert cases["train_1024"].min(axis=0) == pytest.approx([-1, 5], abs=0.05)
    assert cases["far_1024"].max(axis=0) == pytest.approx([1000, 9000], rel=0.05)
    assert all(np.array_equal(cases[name], again, equal_nan=True) for name, again in parity.inputs(x).items())


def test_a_net_without_a_last_linear_layer_is_refused() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Tanh())
    with pytest.raises(ExportError, match="Sequential must end in a Linear layer, at which parity is measured"):
        parity.references(net, {"one": np.zeros((1, 1), np.float32)})


def test_the_summary_names_what_was_withheld_and_why() -> None:
    good = Case("net.pkl", "train_1", (1, 1), 0.0, 0.0, 0.0, True, "equal to the last bit")
    bad = Case("net.onnx", "train_1", (1, 1), 0.5, 0.5, 0.1, False, "99 times float32's own error")
    assert Parity((good,)).summary.startswith("All 1 files, read back from disk, agree")
    expected = "1 of 2 files do not agree with the net: net.onnx (train_1: 99 times float32's own error)."
    assert Parity((good, bad)).summary == expected
