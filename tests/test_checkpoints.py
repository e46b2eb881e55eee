"""What is shipped in checkpoints/ is whole, right, and what `make checkpoints` would write."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from export.verify import find, verify
from nets import LESSONS

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"


def test_every_lesson_that_trains_ships_a_bundle() -> None:
    found = {folder.relative_to(CHECKPOINTS).parts[0] for folder in find(CHECKPOINTS)}
    assert found == set(LESSONS)


@pytest.mark.parametrize("folder", find(CHECKPOINTS), ids=lambda folder: folder.name)
def test_a_shipped_bundle_verifies(folder: Path) -> None:
    assert verify(folder).parity.passed


@pytest.mark.parametrize("key", LESSONS)
def test_training_anew_gives_the_shipped_weights(key: str) -> None:
    lesson = LESSONS[key]
    manifest = json.loads((CHECKPOINTS / key / "manifest.json").read_text())
    assert manifest["settings"] == lesson.config().to_dict()
    trainer = lesson.trainer(lesson.config())
    while not trainer.done:
        trainer.step()
    shipped = safetensors.torch.load_file(CHECKPOINTS / key / "net.safetensors")
    # Other processors round the last bits otherwise, and training carries that on.
    for name, tensor in trainer.learners[0].net.state_dict().items():
        torch.testing.assert_close(shipped[name], tensor, rtol=1e-3, atol=1e-4)
