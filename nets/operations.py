"""Operations: the same operations in torch and numpy, side by side. Tutorial, 运算."""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from charts.blocks import Block, Note, PythonSession, Table
from charts.chart import Chart
from charts.text import Text, Words
from lab import prose
from lab.lesson import Computation, View
from lab.settings import Config, choice, matrix
from lab.transcript import Prompt, first_line

ROUNDING = 1e-5  # tolerance relative to the magnitude of the terms, for float32 sums of a few dozen terms

REFUSALS = (RuntimeError, ValueError, TypeError)  # raised by torch and numpy for unsuitable operands

YES = Text("yes", "是")
EQUAL = Text("equal?", "相等？")


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "make_the_shapes_clash": {"operation": "mm", "a": [[1, 2, 3], [4, 5, 6]]},
    "one_row_for_all": {"operation": "add", "a": [[1, 2], [3, 4], [5, 6]], "b": [[10, 20]]},
    "take_dot_for_mm": {"operation": "dot"},
}

OPERATIONS: dict[str, Words] = {
    "abs": Text("Elementwise: absolute value", "逐元素：绝对值"),
    "add": Text("Elementwise: sum", "逐元素：相加"),
    "mul": Text("Elementwise: product", "逐元素：相乘"),
    "add_row": Text("Broadcasting: add a row to every row", "广播：每行加上同一行"),
    "add_column": Text("Broadcasting: add a column to every column", "广播：每列加上同一列"),
    "mm": Text("Product: two matrices", "乘法：两个矩阵"),
    "matmul": Text("Product: operator @", "乘法：运算符 @"),
    "matvec": Text("Product: matrix and vector", "乘法：矩阵与向量"),
    "batch": Text("Product: batch of matrices and matrix", "乘法：一批矩阵与一个矩阵"),
    "dot_rows": Text("Product: dot of two vectors", "乘法：两个向量的点积"),
    "dot": Text("Product: dot of two matrices", "乘法：对两个矩阵用 dot"),
    "transpose": Text("Shape: transpose", "形状：转置"),
    "flatten": Text("Shape: flatten", "形状：拉成一行"),
    "sum": Text("Reduce: sum of all elements", "归约：全部求和"),
    "sum_rows": Text("Reduce: sum of the rows", "归约：把各行加起来"),
    "mean_columns": Text("Reduce: mean of each row", "归约：每行的平均值"),
    "argmax": Text("Reduce: index of each row's maximum", "归约：每行最大值的下标"),
}


@dataclass(frozen=True, kw_only=True)
class OperationsConfig(Config):
    """Defaults: the tutorial's torch.mm(data, data)."""

    operation: str = choice(
        "mm", Text("Operation", "运算"), OPERATIONS, info=Text("Operation on the matrices", "对矩阵做什么")
    )
    a: tuple[tuple[float, ...], ...] = matrix(
        ((1, 2), (3, 4)), Text("Matrix a", "矩阵 a"), info=Text("The first matrix", "第一个矩阵")
    )
    b: tuple[tuple[float, ...], ...] = matrix(
        ((1, 2), (3, 4)),
        Text("Matrix b", "矩阵 b"),
        info=Text("The second matrix, for operations on two matrices", "第二个矩阵，用于需要两个矩阵的运算"),
    )


def in_torch(operation: str, a: Tensor, b: Tensor) -> Tensor:
    """Apply an operation to float32 matrices a and b; a[0] and b[0] are their first rows, vectors."""
    match operation:
        case "abs":
            return torch.abs(a)
        case "add":
            return a + b
        case "mul":
            return a * b
        case "add_row":
            return a + b[0]  # (n, m) + (m,)
        case "add_column":
            return a + b[:, :1]  # (n, m) + (n, 1)
        case "mm":
            return torch.mm(a, b)  # (n, k) by (k, m) -> (n, m)
        case "matmul":
            return a @ b
        case "matvec":
            return torch.matmul(a, b[0])  # (n, k) by (k,) -> (n,)
        case "batch":
            return torch.matmul(torch.stack((a, a)), b)  # (2, n, k) by (k, m) -> (2, n, m)
        case "dot_rows":
            return torch.dot(a[0], b[0])  # (k,) by (k,) -> a number
        case "dot":
            return torch.dot(a, b)  # raises RuntimeError: torch.dot accepts only vectors
        case "transpose":
            return a.T
        case "flatten":
            return a.flatten()
        case "sum":
            return a.sum()
        case "sum_rows":
            return a.sum(dim=0)  # (n, m) -> (m,)
        case "mean_columns":
            return a.mean(dim=1)  # (n, m) -> (n,)
        case "argmax":
            return a.argmax(dim=1)
    raise ValueError(f"no operation is called {operation!r}")


def in_numpy(operation: str, a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Any:
    """The same operation on a.numpy() and b.numpy()."""
    match operation:
        case "abs":
            return np.abs(a)
        case "add":
            return a + b
        case "mul":
            return a * b
        case "add_row":
            return a + b[0]
        case "add_column":
            return a + b[:, :1]
        case "mm":
            return np.matmul(a, b)  # numpy has no mm
        case "matmul":
            return a @ b
        case "matvec":
            return np.matmul(a, b[0])
        case "batch":
            return np.matmul(np.stack((a, a)), b)
        case "dot_rows":
            return np.dot(a[0], b[0])
        case "dot":
            return np.dot(a, b)  # the matrix product
        case "transpose":
            return a.T
        case "flatten":
            return a.flatten()
        case "sum":
            return a.sum()
        case "sum_rows":
            return a.sum(axis=0)
        case "mean_columns":
            return a.mean(axis=1)
        case "argmax":
            return a.argmax(axis=1)
    raise ValueError(f"no operation is called {operation!r}")


def _case_code(function: Callable[..., Any]) -> dict[str, str]:
    """Code of the return value in each case of the function's match statement, so that shown code is executed code."""
    codes = {}
    for node in ast.walk(ast.parse(inspect.getsource(function))):
        match node:
            case ast.match_case(
                pattern=ast.MatchValue(value=ast.Constant(value=str(key))),
                body=[ast.Return(value=ast.expr() as returned)],
            ):
                codes[key] = ast.unparse(returned)
    return codes


TORCH_CODE, NUMPY_CODE = _case_code(in_torch), _case_code(in_numpy)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of an operation, or the first line of the error that it raised."""

    result: Any = None
    error: str = ""

    @property
    def printed(self) -> str:
        """The outcome as the interactive interpreter prints it."""
        return self.error or repr(self.result)

    def cell(self, describe: Callable[[Any], object]) -> Words:
        """Table cell with `describe(result)`, or "refused" after an error."""
        return Text("refused", "拒绝") if self.error else f"`{describe(self.result)}`"


def attempt(function: Callable[..., Any], *arguments: object) -> Outcome:
    """Call the function and return its outcome."""
    try:
        return Outcome(function(*arguments))
    except REFUSALS as error:
        return Outcome(error=first_line(error))


@dataclass(frozen=True, eq=False)
class Pair:
    """Outcomes of an operation on `a` and `b` in both libraries."""

    operation: str
    a: Tensor
    b: Tensor
    torch: Outcome
    numpy: Outcome

    @classmethod
    def of(cls, operation: str, a: Tensor, b: Tensor) -> "Pair":
        """Run the operation in both libraries."""
        mine = attempt(in_torch, operation, a, b)
        return cls(operation, a, b, mine, attempt(in_numpy, operation, a.numpy(), b.numpy()))

    @property
    def equal(self) -> Words:
        """Whether both results are equal; empty if either library raised an error."""
        if self.torch.error or self.numpy.error:
            return ""
        mine, theirs = self.torch.result.numpy(), self.numpy.result
        if np.array_equal(mine, theirs) and mine.dtype == theirs.dtype:
            return YES
        # After cancellation the rounding error is relative to the terms, not to their sum.
        terms = np.max(in_numpy(self.operation, np.abs(self.a.numpy()), np.abs(self.b.numpy())))
        if mine.dtype != theirs.dtype or not np.allclose(mine, theirs, rtol=0, atol=ROUNDING * terms):
            return Text("no", "否")
        return Text("yes, up to rounding", "是，仅有舍入误差")


def explained(operation: str, a: Tensor, b: Tensor) -> Text:
    """Explanation of why torch refuses the operation for these shapes."""
    shapes = {"a": tuple(a.shape), "b": tuple(b.shape), "k": a.shape[1], "n": b.shape[0], "m": b.shape[1]}
    match operation:
        case "dot":
            said = PROSE.notes["dot_of_matrices"]
        case "dot_rows" | "matvec":
            said = PROSE.notes["lengths_differ"]
        case "mm" | "matmul" | "batch":
            said = PROSE.notes["inner_sizes_differ"]
        case _:
            name, other = _second(operation, b)
            sizes = list(zip(reversed(a.shape), reversed(other.shape), strict=False))
            left, right = next(pair for pair in sizes if pair[0] != pair[1] and 1 not in pair)
            shapes |= {"name": name, "other": tuple(other.shape), "left": left, "right": right}
            said = PROSE.notes["shapes_do_not_fit"]
    return said.format(**shapes)


def broadcast(operation: str, a: Tensor, b: Tensor) -> Text | None:
    """Explanation of what a successful operation broadcasts, or None."""
    if operation == "batch":
        return PROSE.notes["batch_repeated"]
    name, other = _second(operation, b)
    if operation not in ("add", "mul", "add_row", "add_column") or a.shape == other.shape:
        return None
    return PROSE.notes["repeated"].format(
        a=tuple(a.shape), name=name, other=tuple(other.shape), both=tuple(np.broadcast_shapes(a.shape, other.shape))
    )


def _second(operation: str, b: Tensor) -> tuple[str, Tensor]:
    """Second operand of an elementwise operation: its code and its value."""
    match operation:
        case "add_row":
            return "b[0]", b[0]
        case "add_column":
            return "b[:, :1]", b[:, :1]
    return "b", b


def compute(config: OperationsConfig) -> View:
    """Show the chosen operation in both libraries, explain errors and broadcasting, and list all operations."""
    a, b = torch.tensor(config.a, dtype=torch.float32), torch.tensor(config.b, dtype=torch.float32)
    pairs = {operation: Pair.of(operation, a, b) for operation in OPERATIONS}
    chosen = pairs[config.operation]
    blocks: list[Block] = [*_remarks(chosen), *_sessions(config, chosen)]
    if not (chosen.torch.error and chosen.numpy.error):
        blocks.append(_side_by_side(chosen))
    return View(Chart(()), {}, (*blocks, _overview(pairs.values()), _old_lines()))


def _remarks(pair: Pair) -> Iterator[Note]:
    if pair.torch.error:
        yield Note(explained(pair.operation, pair.a, pair.b), "warning")
        return
    repeated = broadcast(pair.operation, pair.a, pair.b)
    if repeated is not None:
        yield Note(repeated)


def _sessions(config: OperationsConfig, pair: Pair) -> tuple[PythonSession, PythonSession]:
    a, b = ([[float(number) for number in row] for row in rows] for rows in (config.a, config.b))
    with_torch = f"""
        a = torch.tensor({a})
        b = torch.tensor({b})
        {TORCH_CODE[pair.operation]}
    """
    with_numpy = f"""
        a = np.array({a}, dtype=np.float32)
        b = np.array({b}, dtype=np.float32)
        {NUMPY_CODE[pair.operation]}
    """
    return (
        Prompt(torch=torch).session(with_torch, "torch", errors=REFUSALS),
        Prompt(np=np).session(with_numpy, "numpy", errors=REFUSALS),
    )


def _side_by_side(pair: Pair) -> Table:
    def row(name: Text, describe: Callable[[Any], str], equal: Words) -> tuple[Words, ...]:
        return name, pair.torch.cell(describe), pair.numpy.cell(describe), equal

    rows = (
        row(Text("result", "结果"), _numbers, pair.equal),
        row(Text("shape", "形状"), _shape, pair.equal and YES),
        row(Text("type", "类型"), lambda result: str(result.dtype), pair.equal and YES),
    )
    head = ("", f"torch: `{TORCH_CODE[pair.operation]}`", f"numpy: `{NUMPY_CODE[pair.operation]}`", EQUAL)
    return Table(head, rows, Text("Side by side", "对照"))


def _overview(pairs: Iterable[Pair]) -> Table:
    rows = tuple(
        (
            OPERATIONS[pair.operation],
            f"`{TORCH_CODE[pair.operation]}`",
            pair.torch.cell(_shape),
            f"`{NUMPY_CODE[pair.operation]}`",
            pair.numpy.cell(_shape),
            pair.equal,
        )
        for pair in pairs
    )
    shape = Text("shape", "形状")
    head = (Text("operation", "运算"), "torch", shape, "numpy", shape, EQUAL)
    return Table(head, rows, Text("All operations on your matrices", "全部运算在你的矩阵上的结果"))


def _numbers(result: Any) -> str:
    return " ".join(np.array2string(np.asarray(result), separator=", ").split())


def _shape(result: Any) -> str:
    return str(tuple(result.shape))


def _old_lines() -> PythonSession:
    source = """
        data = torch.FloatTensor([-1, -2, 1, 2])
        torch.abs(data)
        data = torch.FloatTensor([[1, 2], [3, 4]])
        torch.mm(data, data)
        whole = torch.tensor([[1, 2], [3, 4]])
        whole.dtype
        torch.mm(whole, data)
        torch.mm(whole.float(), data)
    """
    title = Text("Code of the old notes, run today", "旧笔记里的代码，今天运行")
    return Prompt(torch=torch).session(source, title, errors=REFUSALS)


LESSON = Computation(
    key="operations",
    group="basics",
    prose=PROSE,
    config=OperationsConfig,
    ideas=IDEAS,
    sources=(in_torch, in_numpy),
    compute=compute,
)
