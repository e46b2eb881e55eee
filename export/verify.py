"""Check a bundle on disk, which may have come from anywhere: hashes first, then all that `write` checks."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from export import formats, graph, manifest, parity
from export.bundle import Bundle, NonFiniteError, compare
from export.formats import BrokenFileError
from export.parity import Parity, Reference
from nets import TRAININGS
from nets.settings import SettingError
from nets.training import Trainer, is_finite

GOLDEN = "golden.npz"


def find(root: Path) -> list[Path]:
    """The folders of the bundles under `root`, in order, `root` itself among them.

    A folder with a model file counts, so that a lost manifest is noticed, and so does a link to a folder:
    what lies deeper behind it is not looked for. Hidden folders do not count: those of bundles being written are.
    """
    marks = {manifest.NAME, *formats.MODEL_FILES}
    paths = list(root.rglob("*"))
    links = {path for path in paths if path.is_symlink() and path.is_dir()}
    found = links | {path.parent for path in paths if path.name in marks and path.is_file()}
    return sorted(
        folder for folder in found if not any(part.startswith(".") for part in folder.relative_to(root).parts)
    )


def verify(folder: Path) -> Bundle:
    """Measure a bundle's parity anew, on this machine, and hold its golden outputs against its net.

    Raises BrokenFileError for a file that is missing, altered or unreadable, before anything in it is used;
    NonFiniteError for weights that are not finite. A file that computes something else than the net that the manifest
    describes shows in `Bundle.parity`. Nothing is unpickled but the classes of that net, and no operator runs that no
    net of ours has. What is no net and no golden output, net.py and try.html among it, is held to its hash alone.
    """
    described, contents = manifest.read(folder)
    trainer, net = rebuild(described, contents)
    with formats.blaming(formats.ONNX, "has nothing to be compared with"):
        graph.prepare(net, trainer.x)  # its operators are known by it
    if formats.ONNX in contents:
        with formats.blaming(formats.ONNX, "cannot be read"):
            formats.refuse_strangers(contents[formats.ONNX])
    classifies = bool(TRAININGS[described["lesson"]].classes)
    answers = parity.references(net, parity.inputs(trainer.x), classifies=classifies)
    cases = []
    for name in formats.MODEL_FILES:
        if name not in contents:  # one that failed when it was written is not there
            continue
        if name == formats.ONNX:
            wrong = formats.other_graph(contents[name], net, trainer.x)
            cases.append(parity.Case.of_words(name, "graph", wrong, "the operators that the net exports to"))
            if wrong:  # it may agree wherever outputs are compared, and nowhere else: not worth a run
                continue
        cases += compare(name, formats.read(name, contents[name], net), net, answers, described)
    cases += _compare_golden(contents[GOLDEN], net, answers, classifies=classifies)
    return Bundle(folder, described, Parity(tuple(cases)))


def rebuild(described: manifest.Manifest, contents: Mapping[str, bytes]) -> tuple[Trainer[Any], nn.Module]:
    """The lesson's trainer, and its net with the weights that the manifest describes, from any file that has them."""
    try:
        lesson = TRAININGS[described["lesson"]]
        trainer = lesson.trainer(lesson.config.parse(described["settings"]))
        net = next(each.net for each in trainer.learners if each.name == described["net"])
    except (KeyError, TypeError, StopIteration, SettingError) as error:
        raise BrokenFileError(manifest.NAME, f"must name a lesson, its net and its settings: {error!r}") from error
    for name in filter(contents.__contains__, formats.MODEL_FILES):
        state = (
            formats.tensors(contents[name]) if name == formats.ONNX else formats.read(name, contents[name], net).state
        )
        with formats.blaming(name, "does not fit the lesson's net"):
            if manifest.weights_digest(state) != described.get("weights"):
                continue
            net.load_state_dict(state, strict=name != formats.ONNX)  # which leaves out what it does not need
        if not is_finite(net):
            raise NonFiniteError(f"{name} holds weights that are not finite numbers.")
        return trainer, net
    raise BrokenFileError(manifest.NAME, "must have the digest of the weights of a file; it has that of none")


def _compare_golden(
    content: bytes, net: nn.Module, ours: Mapping[str, Reference], *, classifies: bool
) -> list[parity.Case]:
    with formats.blaming(GOLDEN, "must hold the inputs and outputs of every case"):
        formats.refuse_packed(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            golden = {name: (arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in sorted(ours)}
        for name, (x, _) in golden.items():
            # Another processor may round them otherwise, and no more: inputs of its own choice would set its own bound.
            if x.shape != ours[name].x.shape or not np.allclose(x, ours[name].x, rtol=1e-3, equal_nan=True):
                raise ValueError(f"x_{name} is not what the lesson's data give")
        answers = parity.references(net, {name: x for name, (x, _) in golden.items()}, classifies=classifies)
        # Recorded on another machine, maybe: held to the bound for other runtimes.
        return [
            parity.compare_outputs(GOLDEN, name, y, answers[name], exactly=False) for name, (_, y) in golden.items()
        ]
