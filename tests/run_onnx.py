"""Run every net.onnx under a folder with this Python's onnxruntime, on the inputs recorded beside it.

python tests/run_onnx.py FOLDER OUT.npz writes the outputs by NET/CASE, and onnxruntime's version. It stands alone, for
an environment that has an old onnxruntime, the numpy of its time, and nothing of Live Nets.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Float32 = npt.NDArray[np.float32]


def recorded(root: Path) -> Iterator[tuple[str, dict[str, Float32]]]:
    """Each net under `root`, named by its folder, and the inputs in its golden.npz by case."""
    for file in sorted(root.glob("[!.]*/**/net.onnx")):  # a bundle that is being written is in a hidden folder
        with np.load(file.with_name("golden.npz")) as golden:
            cases = {key.removeprefix("x_"): golden[key] for key in golden if key.startswith("x_")}
        yield file.parent.relative_to(root).as_posix(), cases


def outputs(root: Path) -> dict[str, Float32]:
    """By NET/CASE."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # small nets: threads cost more than they give
    found = {}
    for net, cases in recorded(root):
        file = str(root / net / "net.onnx")
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for case, x in cases.items():
            (found[f"{net}/{case}"],) = session.run(["y"], {"x": x})
    return found


if __name__ == "__main__":
    folder, out = sys.argv[1:]
    arrays: dict[str, Any] = {"version": onnxruntime.__version__, **outputs(Path(folder))}
    np.savez(out, **arrays)
