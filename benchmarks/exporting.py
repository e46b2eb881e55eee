"""Export: time compared with default PyTorch calls, detected corruptions, and false alarms over many seeds."""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.timing import compare
from export import bundle, formats, layout, manifest
from export.bundle import Draft
from export.torch_onnx import quiet
from lab.experiment import Learner
from lab.training import Trainer
from nets import TRAININGS
from tests.corruptions import CORRUPTIONS, compared, expected

SEEDS = 50


def run() -> None:
    """Run all three. The seeds take some minutes, since every net is trained completely."""
    for key in TRAININGS:
        _speed(key)
    _corruptions()
    _false_alarms()


def _trained(key: str, **settings: Any) -> Trainer:
    lesson = TRAININGS[key]
    trainer = Trainer(lesson, lesson.recipe(settings))
    trainer.finish()
    return trainer


def _speed(key: str) -> None:
    """Time to write, read back and compare the model files of the lesson's last net."""
    trainer = _trained(key)
    learner, snapshot = trainer.learners[-1], trainer.snapshot()
    with tempfile.TemporaryDirectory(prefix="live-nets-") as folder:
        drafts = iter(range(10**6))

        def ours() -> None:
            with Draft(trainer, snapshot, Path(folder) / str(next(drafts))) as draft:
                draft.check(learner)

        compare(f"{key}, model files of a net", ours, lambda: _baseline(trainer, learner, Path(folder)), rounds=7)
        if not _baseline(trainer, learner, Path(folder)):
            print("    the baseline's comparison raises a false alarm")


def _baseline(trainer: Trainer, learner: Learner, folder: Path) -> bool:
    """Export with default options, save and load; return whether the outputs agree within the usual tolerances.

    As in torch.onnx's documentation, https://docs.pytorch.org/docs/stable/onnx.html
    """
    net = learner.net.eval()
    with quiet():
        program = torch.onnx.export(net, (trainer.experiment.train.x,), dynamo=True, verbose=False)
    assert program is not None
    program.save(folder / "baseline.onnx")
    torch.save(net, folder / "baseline.pkl")
    torch.save(net.state_dict(), folder / "baseline_params.pkl")
    session = onnxruntime.InferenceSession(folder / "baseline.onnx")
    (y,) = session.run(None, {session.get_inputs()[0].name: trainer.experiment.train.x.numpy()})
    with torch.no_grad():
        return np.allclose(y, net(trainer.experiment.train.x).numpy(), rtol=1e-3, atol=1e-5)


def _corruptions() -> None:
    trainers = {key: _trained(key) for key in {each.lesson for each in CORRUPTIONS}}
    for each in CORRUPTIONS:
        failed = [case for case in compared(trainers[each.lesson], each) if not case.passed]
        outputs = sum(bool(case.shape) for case in failed)
        others = [case.case for case in failed if not case.shape]
        caught = ", ".join([*others, *([f"{outputs} of 9 output cases"] if outputs else [])])
        print(f"  {each.label}: {caught or 'MISSED'}; {failed[-1].why if failed else ''}")


def _false_alarms() -> None:
    for key in TRAININGS:
        shares, alarms, files = [], 0, 0
        for seed in range(SEEDS):
            trainer = _trained(key, seed=seed)
            if trainer.diverged:
                continue
            for learner in trainer.learners:
                answers, described = expected(trainer, learner)
                for name in layout.MODEL_FILES:
                    content = formats.write(name, learner.net, trainer.experiment.train.x, manifest.metadata(described))
                    opened = formats.read(name, content, learner.net)
                    cases = bundle.compare(name, opened, learner.net, answers, described)
                    files += 1
                    alarms += not all(case.passed for case in cases)
                    if name == layout.ONNX:
                        shares.append(max(case.share for case in cases))
        print(
            f"  {key}, {SEEDS} seeds: {alarms} false alarms in {files} files; largest error relative to the bound"
            f" {max(shares):.0%}, median {median(shares):.0%}"
        )
