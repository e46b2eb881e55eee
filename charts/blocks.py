"""Content blocks that a lesson shows below its chart: notes, tables, interpreter sessions and graphs."""

from dataclasses import dataclass
from typing import Literal

from charts.text import Words


@dataclass(frozen=True)
class Note:
    """A short note in Markdown: information, good news or a warning."""

    text: Words
    kind: Literal["info", "good", "warning"] = "info"


@dataclass(frozen=True)
class Table:
    """A table. Every row has as many cells as `head`. Raises ValueError otherwise."""

    head: tuple[Words, ...]
    rows: tuple[tuple[Words, ...], ...]
    title: Words = ""

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.head)]
        if wrong:
            raise ValueError(f"a row must have {len(self.head)} cells, not {wrong[0]}")


@dataclass(frozen=True)
class PythonSession:
    """An interpreter session: pairs of code and its output, which is empty for a statement that prints nothing."""

    lines: tuple[tuple[str, str], ...]
    title: Words = ""


@dataclass(frozen=True)
class Node:
    """A node of a graph: a leaf tensor that requires grad, a constant, an operation, or the result.

    `details` are lines of small text below the label.
    """

    label: Words
    kind: Literal["leaf", "constant", "operation", "result"] = "operation"
    details: tuple[Words, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph. `arrows` are (source, target) pairs of indices into `nodes`."""

    nodes: tuple[Node, ...]
    arrows: tuple[tuple[int, int], ...]
    title: Words = ""


Block = Note | Table | PythonSession | Graph
