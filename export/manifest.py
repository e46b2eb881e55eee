"""A bundle's manifest.json: description of the net, and size and hash of every file. No timestamps, no paths."""

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
from export.cases import BrokenFileError, wrap_errors
from export.graph import inference_state
from export.parity import Reference
from lab.experiment import Learner, Scaling
from lab.lesson import Snapshot
from lab.recipe import Recipe, parse_stop
from lab.settings import SettingError
from lab.training import Trainer
from nets import TRAININGS, read_recipe

NAME = layout.MANIFEST
FORMAT = 3  # of manifests that are written; OLDER can be read as well
OLDER = 2  # with settings and seed instead of a recipe
SAMPLE = "train_17"  # golden case that is included in the manifest and in net.onnx, to test them without other files

MAX_FILES = 100
MAX_NAME_LENGTH = 300  # of a file; file systems allow fewer characters

Manifest = dict[str, Any]


def describe(
    trainer: Trainer,
    learner: Learner,
    snapshot: Snapshot,
    sample: Reference,
    language: Language = "en",
) -> Manifest:
    """The manifest without its files and digest. `sample` holds inputs, outputs and tolerances of the case SAMPLE.

    `version` and `language` describe the text files of the bundle.
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
            "matplotlib": version("matplotlib"),  # not imported, because that is slow
        },
        "sample": {
            "x": sample.x.tolist(),
            "y": sample.y.tolist(),
            "tolerance": [[float(f"{each:.3g}") for each in row] for row in sample.tolerance],
        },
    }


def recipe(described: Manifest) -> Recipe:
    """Recipe of the run, from a manifest of any format. Raises BrokenFileError."""
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
    """Settings of the run by name, from a manifest of any format."""
    made: Mapping[str, Any] = described["settings"] if described["format"] == OLDER else described["recipe"]["settings"]
    return made


def to_older_format(described: Manifest) -> Manifest:
    """Convert a manifest to format OLDER."""
    older = {key: value for key, value in described.items() if key != "recipe"}
    own = settings(described)
    return {**older, "format": OLDER, "settings": own, "seed": own["seed"]}


def _scaling(scaling: Scaling | None) -> dict[str, Any] | None:
    return None if scaling is None else {"formula": "scaled = (value - mean) / std", **asdict(scaling)}


def own_metrics(net: str, nets: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics of one net: in a run of several nets, those whose names start with the net's name."""
    prefix = f"{net} " if nets > 1 else ""
    return {name: value for name, value in metrics.items() if name.startswith(prefix)}


def metadata(described: Manifest) -> dict[str, str]:
    """The metadata_props of net.onnx: all values of `describe`, strings unchanged and others as JSON."""
    rest = {key: value for key, value in described.items() if key not in ("files", "digest")}
    return {key: each if isinstance(each, str) else _compact(each) for key, each in rest.items()}


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 hash of the names, dtypes, shapes and bytes of the tensors used in inference."""
    digest = hashlib.sha256()
    for name, tensor in sorted(inference_state(state).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write(manifest: Manifest, folder: Path) -> Manifest:
    """Write manifest.json with the size and hash of every file in the folder and its own digest, and return it."""
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    files = {name: {"size": len(content), "sha256": _sha256(content)} for name, content in contents.items()}
    sealed = {**manifest, "files": files}
    sealed["digest"] = digest_of(sealed)
    (folder / NAME).write_bytes(to_json(sealed))
    return sealed


def to_json(value: Mapping[str, Any]) -> bytes:
    """Indented UTF-8 JSON. Raises ValueError for NaN and infinity."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def digest_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 hash of a manifest without its digest."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return _sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode())


def read(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Return the folder's manifest and the content of each file that it lists. Raises BrokenFileError.

    The size and hash of each file are verified first. Files that the manifest does not list are refused.
    """
    manifest = _parse(layout.read_file(folder / NAME, NAME))
    contents = {name: _checked(folder, name, entry) for name, entry in manifest["files"].items()}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in contents and path.name != NAME:
            raise BrokenFileError(path.name, f"is not among the files that {NAME} lists")
    return manifest, contents


def _parse(content: bytes) -> Manifest:
    with wrap_errors(NAME, "is not a manifest"):
        manifest = layout.from_json(content)
        if not isinstance(manifest, dict) or manifest.get("digest") != digest_of(manifest):
            raise BrokenFileError(NAME, "was altered: its digest does not match its content")
    if type(manifest.get("format")) is not int or manifest["format"] not in (OLDER, FORMAT):
        raise BrokenFileError(NAME, f"must be of format {OLDER} or {FORMAT}, not {manifest.get('format')!r}")
    files = manifest.get("files")
    if not isinstance(files, dict) or len(files) > MAX_FILES or not all(map(_is_entry, files.items())):
        raise BrokenFileError(NAME, "must list files as plain names, each with size and sha256")
    if "golden.npz" not in files or not {*layout.MODEL_FILES} & {*files}:
        raise BrokenFileError(NAME, "must list golden.npz and a model file")
    if not isinstance(manifest.get("metrics"), dict):
        raise BrokenFileError(NAME, "must list the metrics by name")
    return manifest


def _is_entry(item: tuple[str, Any]) -> bool:
    name, entry = item
    # No path on any system: no backslash, no drive letter, no NUL.
    plain = Path(name).name == name and name not in ("", "..", NAME) and not {*name} & {*"\\:\0"}
    plain = plain and name.isprintable() and len(name) <= MAX_NAME_LENGTH
    listed = isinstance(entry, dict) and type(entry.get("size")) is int and isinstance(entry.get("sha256"), str)
    return plain and listed


def _checked(folder: Path, name: str, entry: Mapping[str, Any]) -> bytes:
    content = layout.read_file(folder / name, name, entry["size"])
    if _sha256(content) != entry["sha256"]:
        raise BrokenFileError(name, "was altered: its sha256 does not match the manifest")
    return content


# Keys of texts, which are not checked in manifests of other versions, since their wording may differ.
_TEXT_KEYS = {"version", "title", "label", "architecture", "features", "unit"}
_CHECKED_SEPARATELY = {"files", "digest", "versions", "sample"}
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")


def check(found: Manifest, made: Manifest) -> bool:
    """Compare a manifest with the regenerated one, `made`, and return whether its texts were compared as well.

    Raises BrokenFileError. Texts are skipped if the manifest is of another version. Numbers may differ by the rounding
    of other processors.
    """
    if found["format"] == OLDER:
        made = to_older_format(made)
    version = found.get("version", "")  # missing in 0.5.0 and older
    if not isinstance(version, str) or not re.fullmatch(f"({_VERSION.pattern})?", version):
        raise BrokenFileError(NAME, f"must give a version, not {str(version)[:40]!r}")
    same: bool = version == made["version"] and found["format"] == FORMAT
    wrong = _difference(found, made, _CHECKED_SEPARATELY if same else _CHECKED_SEPARATELY | _TEXT_KEYS, exactly=same)
    if wrong:
        raise BrokenFileError(NAME, f"gives a value of {wrong} that does not match its lesson, settings and weights")
    versions = found.get("versions")
    if not isinstance(versions, dict) or not all(map(_is_version, versions.items())):
        raise BrokenFileError(NAME, "must give the version of each library")
    if same and {*versions} != {*made["versions"]}:
        raise BrokenFileError(NAME, f"must give the versions of {', '.join(made['versions'])}")
    return same


def _is_version(item: tuple[str, Any]) -> bool:
    return isinstance(item[1], str) and all(_VERSION.fullmatch(each) for each in item)


def _difference(found: Any, made: Any, skipped: Set[str], *, exactly: bool, where: str = "") -> str:
    """Dotted path of the first difference between two JSON values, or empty. `exactly` refuses additional keys."""
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
        # Rounding differences between processors accumulate in metrics, but hardly in the data.
        relative = 1e-3 if where.startswith("metrics.") else 1e-5
        alike = type(found) is float and math.isclose(found, made, rel_tol=relative, abs_tol=1e-6)
        return "" if alike else where
    return "" if type(found) is type(made) and found == made else where


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
