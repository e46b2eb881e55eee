"""What is shipped in checkpoints/ is whole, right, and what `make checkpoints` would write."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from export.layout import find, place
from export.verify import verify
from lab.training import Trainer
from nets import TRAININGS

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"


def test_every_lesson_that_trains_ships_a_bundle() -> None:
    found = {folder.relative_to(CHECKPOINTS).parts[0] for folder in find(CHECKPOINTS)}
    assert found == set(TRAININGS)


@pytest.mark.parametrize("folder", find(CHECKPOINTS), ids=lambda folder: str(folder.relative_to(CHECKPOINTS)))
def test_a_shipped_bundle_verifies(folder: Path) -> None:
    assert verify(folder).parity.passed


@pytest.mark.parametrize("key", TRAININGS)
def test_training_anew_gives_the_shipped_weights(key: str) -> None:
    lesson = TRAININGS[key]
    trainer = Trainer(lesson, lesson.recipe())
    trainer.finish()
    names = [learner.name for learner in trainer.learners]
    for learner in trainer.learners:
        folder = CHECKPOINTS / place(key, learner.name, names)
        assert (
            json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["recipe"]["settings"]
            == lesson.config().to_dict()
        )
        shipped = safetensors.torch.load_file(folder / "net.safetensors")
        # Other processors round the last bits otherwise, and training carries that on.
        for name, tensor in learner.net.state_dict().items():
            torch.testing.assert_close(shipped[name], tensor, rtol=1e-3, atol=1e-4)
