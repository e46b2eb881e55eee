"""Reading files of torch.save without unpickling: their pickle operations are compared with those of our own file.

A pickle is a program, and torch.load(weights_only=True) does not make it harmless: if a net's classes are allowed,
functions that torch allows by default can set attributes of torch itself, and then run arbitrary code. Untrusted files
are therefore never unpickled. A file that torch.save wrote from an equal value has the same operations.
"""

import io
import pickletools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# Storage types, which may differ from our own file, as may the values of tensors.
STORAGES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
}
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # module names in pickles of protocol 2
_MAX_EXTRA_BYTES = 4096  # by which a pickle may exceed the length of our own

Operation = tuple[str, Any]
_NONE: Operation = ("", None)


class OperationMismatchError(ValueError):
    """Pickle whose operations differ from those that torch.save writes here; the message gives the difference."""


def tensors(content: bytes, ours: bytes, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in a file of torch.save, under the names of `state` and with the dtypes of the file.

    `ours` is a file that torch.save writes here for a value of the same classes and shapes; `state` is its state_dict.
    Raises OperationMismatchError, and ValueError if torch.save cannot have written the file.
    """
    found, own = _records(content), _records(ours)
    kinds = _same_operations(found.get("data.pkl", b""), own["data.pkl"])
    if {*own} != {*found}:
        differing = sorted({*own} ^ {*found})
        raise OperationMismatchError(f"its records differ from those that torch.save writes: {', '.join(differing)}")
    made = {}
    for number, (name, tensor) in enumerate(state.items()):
        key = f"data/{number}"
        if own[key] != tensor.detach().contiguous().numpy().tobytes():
            raise RuntimeError(f"torch.save no longer writes tensors in the order of the state_dict: {name}")
        dtype = kinds[tensor.dtype]
        if len(found[key]) != tensor.numel() * dtype.itemsize:
            raise ValueError(f"its tensor {name} has {len(found[key])} bytes")
        made[name] = torch.frombuffer(bytearray(found[key]), dtype=dtype).reshape(tensor.shape)
    return made


def _records(content: bytes) -> dict[str, bytes]:
    """Records used in loading, read by torch.load's own zip reader, because other readers may find different ones."""
    if content[:4] != b"PK\x03\x04":  # otherwise torch.load treats the file as a bare pickle
        raise ValueError("it is not a zip archive as written by torch.save")
    reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    names = [name for name in reader.get_all_records() if not name.startswith(".") and name != "version"]
    if sum(map(reader.get_record_size, names)) > len(content):
        raise ValueError("it unpacks to more bytes than its size")
    records = {name: reader.get_record(name) for name in names}
    if records.pop("byteorder", b"little") != b"little":
        raise ValueError("its byte order is not little-endian")
    return records


def _same_operations(found: bytes, ours: bytes) -> dict[torch.dtype, torch.dtype]:
    """Map each dtype in our pickle to that in the other. Raises OperationMismatchError for any other difference."""
    if len(found) > len(ours) + _MAX_EXTRA_BYTES:
        raise OperationMismatchError(f"its pickle has {len(found)} bytes, where torch.save writes {len(ours)}")
    allowed = {argument for name, argument in _operations(ours) if name == "GLOBAL"}
    kinds: dict[torch.dtype, torch.dtype] = {}
    memo: dict[int, int] = {}  # from our memo index to theirs: any one-to-one mapping is valid
    inverse: dict[int, int] = {}
    other = _operations(found)
    for number, (name, argument) in enumerate(_operations(ours), 1):
        theirs, value = next(other, _NONE)
        if theirs == "GLOBAL" and value not in allowed | STORAGES.keys():
            module, _, attribute = value.partition(" ")
            named = f"{_PYTHON_2.get(module, module)}.{attribute}"
            raise OperationMismatchError(f"it names {named}, which does not belong to the net")
        if theirs == name == "GLOBAL" and {argument, value} <= STORAGES.keys():
            kinds[STORAGES[argument]] = STORAGES[value]
        elif theirs == name and name in _MEMO:
            a, b = int(argument), int(value)
            if memo.setdefault(a, b) != b or inverse.setdefault(b, a) != a:
                raise OperationMismatchError(f"operation {number} of its pickle uses another memo entry")
        elif (theirs, value) != (name, argument):
            why = "has another argument" if theirs == name else f"is {theirs or 'missing'}, not {name}"
            raise OperationMismatchError(f"operation {number} of its pickle {why}")
    if next(other, None) is not None:
        raise OperationMismatchError("its pickle is longer than that of torch.save")
    return kinds


def _operations(pickle: bytes) -> Iterator[Operation]:
    """Yield the operations of a pickle as (opcode name, argument) without running them; _NONE for data after STOP."""
    end = 0
    for code, argument, position in pickletools.genops(pickle):
        yield code.name, argument
        end = (position or 0) + 1
    if end != len(pickle):
        yield _NONE
