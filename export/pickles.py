"""What a file of torch.save holds, told without unpickling it: its operations are held against those of our own.

A pickle is a program. That torch.load(weights_only=True) runs only what it allows does not make one harmless: with a
net's classes allowed, functions of torch's own list set attributes of torch itself, and end in code of the file's
choice. So no file from elsewhere is unpickled. One that torch.save wrote of the same value has the same operations.
"""

import io
import pickletools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# What may be another than in our own file: a tensor's numbers, and of which kind they are.
STORAGES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
}
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # the names that pickles of protocol 2 write
_MOST = 4096  # bytes that a pickle may be longer than our own

Operation = tuple[str, Any]
_NONE: Operation = ("", None)


class OtherOperationsError(ValueError):
    """A pickle of other operations than torch.save writes here; the message says where they differ."""


def tensors(content: bytes, ours: bytes, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in a file of torch.save, by the names of `state`, with the dtypes that the file has.

    `ours` is what torch.save makes here of a value of the same classes and shapes, and `state` its tensors, in order.
    Raises OtherOperationsError, and ValueError for a file that is not of torch.save at all.
    """
    found, own = _records(content), _records(ours)
    kinds = _same_operations(found.get("data.pkl", b""), own["data.pkl"])
    if {*own} != {*found}:
        differing = sorted({*own} ^ {*found})
        raise OtherOperationsError(f"it holds other records than torch.save writes: {', '.join(differing)}")
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
    """The records that loading depends on, as torch.load's own reader finds them: two readers of zip may differ."""
    if content[:4] != b"PK\x03\x04":  # else torch.load takes the file for a bare pickle
        raise ValueError("it is no zip archive, as torch.save writes them")
    reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    names = [name for name in reader.get_all_records() if not name.startswith(".") and name != "version"]
    if sum(map(reader.get_record_size, names)) > len(content):
        raise ValueError("it unpacks to more bytes than it has")
    records = {name: reader.get_record(name) for name in names}
    if records.pop("byteorder", b"little") != b"little":
        raise ValueError("its numbers are of another byte order")
    return records


def _same_operations(found: bytes, ours: bytes) -> dict[torch.dtype, torch.dtype]:
    """By dtype in our own pickle, that in the other. Raises OtherOperationsError at the first other difference."""
    if len(found) > len(ours) + _MOST:
        raise OtherOperationsError(f"its pickle has {len(found)} bytes, where torch.save writes {len(ours)}")
    allowed = {argument for name, argument in _operations(ours) if name == "GLOBAL"}
    kinds: dict[torch.dtype, torch.dtype] = {}
    memo: dict[int, int] = {}  # by number in ours: the numbers are free, as long as each stands for the same
    taken: dict[int, int] = {}
    other = _operations(found)
    for number, (name, argument) in enumerate(_operations(ours), 1):
        theirs, value = next(other, _NONE)
        if theirs == "GLOBAL" and value not in allowed | STORAGES.keys():
            module, _, attribute = value.partition(" ")
            named = f"{_PYTHON_2.get(module, module)}.{attribute}"
            raise OtherOperationsError(f"it names {named}, which is no part of the net")
        if theirs == name == "GLOBAL" and {argument, value} <= STORAGES.keys():
            kinds[STORAGES[argument]] = STORAGES[value]
        elif theirs == name and name in _MEMO:
            a, b = int(argument), int(value)
            if memo.setdefault(a, b) != b or taken.setdefault(b, a) != a:
                raise OtherOperationsError(f"operation {number} of its pickle takes another value from the memo")
        elif (theirs, value) != (name, argument):
            other_than = "has another argument" if theirs == name else f"is {theirs or 'missing'}, and not {name}"
            raise OtherOperationsError(f"operation {number} of its pickle {other_than}")
    if next(other, None) is not None:
        raise OtherOperationsError("its pickle does not end where torch.save ends it")
    return kinds


def _operations(pickle: bytes) -> Iterator[Operation]:
    """The operations of a pickle and their arguments, none of which is run; the last is STOP, at the end of it."""
    end = 0
    for code, argument, position in pickletools.genops(pickle):
        yield code.name, argument
        end = (position or 0) + 1
    if end != len(pickle):
        yield _NONE
