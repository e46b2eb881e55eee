"""A bundle's manifest.json: what the net is, and the size and hash of every file. No dates, no paths."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Set
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from charts.text import Language, both
from export import VERSION, layout
from export.cases import BrokenFileError, blaming
from export.graph import inference_state
from export.parity import Reference
from lab.experiment import Learner, Scaling
from lab.lesson import Snapshot
from lab.recipe import Recipe, parse_stop
from lab.settings import SettingError
from lab.training import Trainer
from nets import TRAININGS, read_recipe

NAME = layout.MANIFEST
FORMAT = 3  # what is written; OLDER is read as well
OLDER = 2  # has settings and seed in place of a recipe
SAMPLE = "train_17"  # the golden case that the manifest and net.onnx hold, so that either can be tested by itself

MOST_FILES = 100
MOST_LETTERS = 300  # of a file's name; disks take fewer

Manifest = dict[str, Any]


def describe(
    trainer: Trainer,
    learner: Learner,
    snapshot: Snapshot,
    sample: Reference,
    language: Language = "en",
) -> Manifest:
    """All but the files. `sample` is what the net says to SAMPLE's inputs, and how far another runtime may be off.

    `version` and `language` are those of the texts that lie beside the model files.
    """
    net, lesson, experiment = learner.net, trainer.lesson, trainer.experiment
    return {
        "format": FORMAT,
        "version": VERSION,
        "language": language,
        "lesson": lesson.key,
        "title": lesson.title.en,
        "net": learner.name,
        "label": both(learner.label),
        "nets": [each.name for each in trainer.learners],
        "class": f"{type(net).__module__}.{type(net).__qualname__}",
        "modules": sorted({f"{type(each).__module__}.{type(each).__qualname__}" for each in net.modules()}),
        "architecture": str(net),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "weights": weights_digest(net.state_dict()),
        "task": lesson.task,
        "inputs": [
            {
                "name": "x",
                "dtype": "float32",
                "shape": ["batch", *experiment.train.x.shape[1:]],
                "features": lesson.inputs.features,
                "unit": lesson.inputs.unit,
                "trained_from": experiment.train.x.amin(dim=0).tolist(),
                "trained_to": experiment.train.x.amax(dim=0).tolist(),
                "scaling": _scaling(experiment.x_scaling),
            }
        ],
        "outputs": [
            {
                "name": "y",
                "dtype": "float32",
                "shape": ["batch", *sample.y.shape[1:]],
                "features": lesson.outputs.features,
                "unit": lesson.outputs.unit,
                "scaling": _scaling(experiment.y_scaling),
            }
        ],
        "classes": lesson.classes,
        "recipe": trainer.recipe.to_dict(),
        "steps": snapshot.step,
        "metrics": own_metrics(learner.name, len(trainer.learners), snapshot.metrics),
        "versions": {
            "torch": torch.__version__.partition("+")[0],
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
            "matplotlib": version("matplotlib"),  # whose import takes long
        },
        "sample": {
            "x": sample.x.tolist(),
            "y": sample.y.tolist(),
            "tolerance": [[float(f"{each:.3g}") for each in row] for row in sample.tolerance],
        },
    }


def recipe(described: Manifest) -> Recipe:
    """The recipe of the run, of a manifest of any format. Raises BrokenFileError."""
    try:
        if described["format"] == FORMAT:
            made = read_recipe(described["recipe"])
        else:
            made = TRAININGS[described["lesson"]].recipe(described["settings"])
            if described["steps"] != Trainer(TRAININGS[made.lesson], made).steps:
                made = replace(made, stop=parse_stop(described["steps"]))
    except (KeyError, TypeError, SettingError) as error:
        raise BrokenFileError(NAME, f"must name a lesson and the settings of its run: {error!r}") from error
    if made.lesson != described.get("lesson"):
        raise BrokenFileError(NAME, "must name the lesson of its recipe")
    return made


def settings(described: Manifest) -> Mapping[str, Any]:
    """The settings of the run by name, of a manifest of any format."""
    made: Mapping[str, Any] = described["settings"] if described["format"] == OLDER else described["recipe"]["settings"]
    return made


def as_older(described: Manifest) -> Manifest:
    """The same as a manifest of format OLDER has it."""
    older = {key: value for key, value in described.items() if key != "recipe"}
    own = settings(described)
    return {**older, "format": OLDER, "settings": own, "seed": own["seed"]}


def _scaling(scaling: Scaling | None) -> dict[str, Any] | None:
    return None if scaling is None else {"formula": "scaled = (value - mean) / std", **asdict(scaling)}


def own_metrics(net: str, nets: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of the net itself: of a run of several, those that begin with its name."""
    prefix = f"{net} " if nets > 1 else ""
    return {name: value for name, value in metrics.items() if name.startswith(prefix)}


def metadata(described: Manifest) -> dict[str, str]:
    """What net.onnx says of itself in its metadata_props: all that `describe` gives, texts as they are, else JSON."""
    rest = {key: value for key, value in described.items() if key not in ("files", "digest")}
    return {key: each if isinstance(each, str) else _compact(each) for key, each in rest.items()}


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """One hash of the tensors that a prediction depends on: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(inference_state(state).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write(manifest: Manifest, folder: Path) -> Manifest:
    """Seal the folder: manifest.json with the size and hash of every file that is in it, and its own digest."""
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    files = {name: {"size": len(content), "sha256": _sha256(content)} for name, content in contents.items()}
    sealed = {**manifest, "files": files}
    sealed["digest"] = digest_of(sealed)
    (folder / NAME).write_bytes(to_json(sealed))
    return sealed


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON for people and programs: indented, UTF-8, with nothing that JSON does not have."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest_of(manifest: Mapping[str, Any]) -> str:
    """The hash of all that a manifest says, but for this hash itself."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return _sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode())


def read(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The folder's manifest, and the content of each file that it lists. Raises BrokenFileError.

    No content is given out before its size and hash are right, and none that the manifest does not list.
    """
    manifest = _parse(layout.read_file(folder / NAME, NAME))
    contents = {name: _checked(folder, name, entry) for name, entry in manifest["files"].items()}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in contents and path.name != NAME:
            raise BrokenFileError(path.name, f"is not among the files that {NAME} lists")
    return manifest, contents


def _parse(content: bytes) -> Manifest:
    with blaming(NAME, "is no manifest"):
        manifest = layout.from_json(content)
        if not isinstance(manifest, dict) or manifest.get("digest") != digest_of(manifest):
            raise BrokenFileError(NAME, "was altered: its digest does not match its content")
    if type(manifest.get("format")) is not int or manifest["format"] not in (OLDER, FORMAT):
        raise BrokenFileError(NAME, f"must be of format {OLDER} or {FORMAT}, not {manifest.get('format')!r}")
    files = manifest.get("files")
    if not isinstance(files, dict) or len(files) > MOST_FILES or not all(map(_is_entry, files.items())):
        raise BrokenFileError(NAME, "must list files as plain names, each with its size and sha256")
    if "golden.npz" not in files or not {*layout.MODEL_FILES} & {*files}:
        raise BrokenFileError(NAME, "must list golden.npz and a model file")
    if not isinstance(manifest.get("metrics"), dict):
        raise BrokenFileError(NAME, "must list the metrics by name")
    return manifest


def _is_entry(item: tuple[str, Any]) -> bool:
    name, entry = item
    # No path, and nothing that only some systems take for one: backslash, drive letter, NUL.
    plain = Path(name).name == name and name not in ("", "..", NAME) and not {*name} & {*"\\:\0"}
    plain = plain and name.isprintable() and len(name) <= MOST_LETTERS
    listed = isinstance(entry, dict) and type(entry.get("size")) is int and isinstance(entry.get("sha256"), str)
    return plain and listed


def _checked(folder: Path, name: str, entry: Mapping[str, Any]) -> bytes:
    content = layout.read_file(folder / name, name, entry["size"])
    if _sha256(content) != entry["sha256"]:
        raise BrokenFileError(name, "was altered: its sha256 is not that of the manifest")
    return content


# What the program's texts call things: another version may have other words, and of them nothing is claimed.
_WORDS = {"version", "title", "label", "architecture", "features", "unit"}
_NO_CLAIMS = {"files", "digest", "versions", "sample"}  # checked by themselves
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")


def check(found: Manifest, made: Manifest) -> bool:
    """Hold what a manifest claims against `made`, which was described anew; whether its words could be checked too.

    Raises BrokenFileError. A manifest of another version is held to what is no matter of words. Numbers may be off by
    another processor's rounding.
    """
    if found["format"] == OLDER:
        made = as_older(made)
    version = found.get("version", "")  # 0.5.0 and older do not give it
    if not isinstance(version, str) or not re.fullmatch(f"({_VERSION.pattern})?", version):
        raise BrokenFileError(NAME, f"must give a version, not {str(version)[:40]!r}")
    same: bool = version == made["version"] and found["format"] == FORMAT
    wrong = _difference(found, made, _NO_CLAIMS if same else _NO_CLAIMS | _WORDS, exactly=same)
    if wrong:
        raise BrokenFileError(NAME, f"claims another {wrong} than its lesson, settings and weights have")
    versions = found.get("versions")
    if not isinstance(versions, dict) or not all(map(_is_version, versions.items())):
        raise BrokenFileError(NAME, "must give the version of each library")
    if same and {*versions} != {*made["versions"]}:
        raise BrokenFileError(NAME, f"must give the versions of {', '.join(made['versions'])}")
    return same


def _is_version(item: tuple[str, Any]) -> bool:
    return isinstance(item[1], str) and all(_VERSION.fullmatch(each) for each in item)


def _difference(found: Any, made: Any, skipped: Set[str], *, exactly: bool, where: str = "") -> str:
    """Where two values of JSON differ, as a dotted path; empty if nowhere. `exactly` allows for no further keys."""
    if isinstance(made, Mapping):
        if not isinstance(found, Mapping):
            return where
        for key in sorted({*made, *(found if exactly else ())} - skipped):
            path = f"{where}.{key}".lstrip(".")
            if key not in found or key not in made:
                return path
            if wrong := _difference(found[key], made[key], skipped, exactly=exactly, where=path):
                return wrong
        return ""
    if isinstance(made, list | tuple):
        if not isinstance(found, list) or len(found) != len(made):
            return where
        pairs = zip(found, made, strict=True)
        return next(filter(None, (_difference(*pair, skipped, exactly=exactly, where=where) for pair in pairs)), "")
    if isinstance(made, float):
        # What a processor rounds otherwise adds up in a metric, but hardly in the data.
        relative = 1e-3 if where.startswith("metrics.") else 1e-5
        alike = type(found) is float and math.isclose(found, made, rel_tol=relative, abs_tol=1e-6)
        return "" if alike else where
    return "" if type(found) is type(made) and found == made else where


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
