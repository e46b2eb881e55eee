"""Tensors: conversion between numpy and torch, with shared memory. Tutorial, 初始化."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charts.blocks import Note, PythonSession, Table
from charts.chart import Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab import prose
from lab.lesson import Computation, View
from lab.settings import Config, Matrix, choice, matrix, number, vector
from lab.transcript import Prompt

PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "change_the_tensor": {"side": "torch"},
    "one_decimal_point": {"array": [[0.5, 1, 2], [3, 4, 5]]},
    "a_tall_array": {"array": [[0, 1], [2, 3], [4, 5]]},
}


SEED_ARRAY: Matrix = ((0, 1, 2), (3, 4, 5))


@dataclass(frozen=True, kw_only=True)
class TensorsConfig(Config):
    """The array, the element change and the data. Defaults: the tutorial's array and data."""

    array: tuple[tuple[float, ...], ...] = matrix(
        SEED_ARRAY,
        Text("Array", "数组"),
        info=Text("The rows of np_data; try a decimal point", "np_data 的各行；可以试试小数"),
    )
    side: str = choice(
        "numpy",
        Text("Change", "修改"),
        {"numpy": Text("the array (numpy)", "数组（numpy）"), "torch": Text("the tensor (torch)", "张量（torch）")},
        info=Text("The side whose first element is set", "在哪一边给第一个元素赋值"),
    )
    value: int = number(
        10, Text("New value", "新的值"), -1000, 1000, info=Text("Value for the first element", "第一个元素的值")
    )
    data: tuple[float, ...] = vector(
        (-1, -2, 1, 2),
        Text("Data", "数据"),
        info=Text("Argument of FloatTensor and tensor", "交给 FloatTensor 和 tensor 的列表"),
    )


def change(np_data: npt.NDArray[Any], side: str, value: int) -> tuple[Tensor, Tensor]:
    """Change one side; return a tensor that shares the memory of `np_data`, and a copy made before the change."""
    torch_data = torch.from_numpy(np_data)  # shares the memory
    copied = torch.tensor(np_data)  # copies the data
    if side == "numpy":
        np_data[0, 0] = value
    else:
        torch_data[0, 0] = value
    return torch_data, copied


def shares_memory(tensor: Tensor, array: npt.NDArray[Any]) -> bool:
    """Whether both start at the same address."""
    return tensor.data_ptr() == array.ctypes.data


def places(tensor: Tensor) -> Tensor:
    """Offset in memory of each element of a matrix, in row-major order: (rows · columns,)."""
    row_stride, column_stride = tensor.stride()
    i = torch.arange(tensor.shape[0]).unsqueeze(dim=1)  # (rows, 1)
    j = torch.arange(tensor.shape[1])  # (columns,)
    return (i * row_stride + j * column_stride).flatten()


def through_a_layer(x: Tensor) -> Tensor:
    """Output (N, 1) of a float32 linear layer for x (N, features). Raises RuntimeError unless x is float32."""
    layer = nn.Linear(x.shape[1], 1)
    output: Tensor = layer(x)
    return output


def compute(config: TensorsConfig) -> View:
    """Show the effect of a change on both sides and the copy, and the memory layout."""
    np_data = np.array(config.array)
    before = np_data.copy()
    torch_data, copied = change(np_data, config.side, config.value)
    changed, other = ("np_data", "torch_data") if config.side == "numpy" else ("torch_data", "np_data")
    seen = (torch_data if config.side == "numpy" else np_data)[0, 0].item()
    note = PROSE.notes["changed"].format(
        changed=changed, other=other, value=config.value, seen=seen, kept=copied[0, 0].item()
    )
    prompt = Prompt(np=np, nn=nn, torch=torch)
    return View(
        Chart((_who_sees_it(np_data, torch_data, copied), _walk(torch_data))),
        {},
        (
            _there_and_back(prompt, config),
            _memory(prompt, f"{changed}[0, 0] = {config.value}"),
            _table(before, np_data, torch_data, copied),
            Note(note, "good"),
            _layout(prompt),
            _constructors(prompt, list(config.data)),
            _two_floats(prompt, list(config.data)),
        ),
    )


def _who_sees_it(np_data: npt.NDArray[Any], torch_data: Tensor, copied: Tensor) -> Panel:
    x = as_array(range(np_data.size))
    return Panel(
        Text("Who sees the change", "谁看到了修改"),
        Text("position in memory", "内存位置"),
        Text("value", "值"),
        (
            Points("np_data", x, as_array(np_data.flatten()), color=0, marker="square", size=20),
            Points("torch_data", x, as_array(torch_data.flatten()), color=4, size=14),
            Points("copied", x, as_array(copied.flatten()), color=2, marker="triangle", size=8),
        ),
    )


def _walk(torch_data: Tensor) -> Panel:
    x = as_array(range(torch_data.numel()))
    return Panel(
        Text("A walk through memory", "在内存中行走"),
        Text("element, row by row", "元素（逐行读）"),
        Text("position in memory", "内存位置"),
        (
            Line("torch_data", x, as_array(places(torch_data)), color=0),
            Line("torch_data.T", x, as_array(places(torch_data.T)), color=1),
            Line("torch_data.T.contiguous()", x, as_array(places(torch_data.T.contiguous())), color=4, dashed=True),
        ),
    )


def _there_and_back(prompt: Prompt, config: TensorsConfig) -> PythonSession:
    np_data = np.array(config.array)
    whole = config.array == SEED_ARRAY and np_data.dtype == np.int64
    source = f"""
        np_data = {"np.arange(6).reshape((2, 3))" if whole else f"np.array({np_data.tolist()})"}
        torch_data = torch.from_numpy(np_data)
        torch_data
        torch_data.numpy()
    """
    return prompt.session(source, Text("There and back", "转过去，再转回来"))


def _memory(prompt: Prompt, change: str) -> PythonSession:
    source = f"""
        copied = torch.tensor(np_data)
        torch_data.data_ptr() == np_data.ctypes.data  # the same address?
        copied.data_ptr() == np_data.ctypes.data
        {change}
        np_data
        torch_data
        copied
    """
    return prompt.session(source, Text("Shared or copied", "共用还是复制"))


def _table(before: npt.NDArray[Any], np_data: npt.NDArray[Any], torch_data: Tensor, copied: Tensor) -> Table:
    old, yes, no = str(before[0, 0]), Text("yes", "是"), Text("no", "否")
    rows = (
        ("`np_data`", old, str(np_data[0, 0]), yes),
        ("`torch_data`", old, str(torch_data[0, 0].item()), yes if shares_memory(torch_data, np_data) else no),
        ("`copied`", old, str(copied[0, 0].item()), yes if shares_memory(copied, np_data) else no),
    )
    head = (
        Text("Element [0, 0] of", "元素 [0, 0]"),
        Text("before", "修改前"),
        Text("after", "修改后"),
        Text("memory of np_data", "np_data 的内存"),
    )
    return Table(head, rows)


def _layout(prompt: Prompt) -> PythonSession:
    source = """
        torch_data.shape
        torch_data.dtype
        torch_data.stride()  # in elements
        np_data.strides  # in bytes
        torch_data.T.stride()
        torch_data.T.data_ptr() == torch_data.data_ptr()
        torch_data.T.is_contiguous()
        torch_data.T.contiguous().stride()
    """
    return prompt.session(source, Text("Shape, type and strides", "形状、类型和步长"))


def _constructors(prompt: Prompt, data: list[float]) -> PythonSession:
    source = f"""
        data = torch.FloatTensor({data})  # the old way
        data
        torch.tensor({data})
        torch.tensor({data}).dtype
        torch.tensor({data}, dtype=torch.float32)
        torch.tensor(3)
        torch.Tensor(3).shape  # three uninitialized numbers
    """
    return prompt.session(source, Text("FloatTensor and tensor", "FloatTensor 与 tensor"))


def _two_floats(prompt: Prompt, data: list[float]) -> PythonSession:
    source = f"""
        x = torch.from_numpy(np.array([{data}], dtype=float))
        x.dtype
        (x + torch.ones({len(data)})).dtype
        layer = nn.Linear({len(data)}, 1)
        layer.weight.dtype
        layer(x)
        layer(x.float()).dtype
    """
    return prompt.session(source, Text("float64 meets float32", "float64 遇上 float32"), errors=(RuntimeError,))


LESSON = Computation(
    key="tensors",
    group="basics",
    prose=PROSE,
    config=TensorsConfig,
    ideas=IDEAS,
    sources=(change, shares_memory, places, through_a_layer),
    compute=compute,
)
