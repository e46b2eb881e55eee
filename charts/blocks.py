"""What a lesson shows besides its chart, as data: remarks, tables, sessions of code and its output, graphs."""

from dataclasses import dataclass
from typing import Literal

from charts.text import Words


@dataclass(frozen=True)
class Note:
    """A remark of a sentence or two, in Markdown: something to know, something good, or something to mend."""

    text: Words
    kind: Literal["info", "good", "warning"] = "info"


@dataclass(frozen=True)
class Table:
    """A table: `rows` of as many cells as `head` has."""

    head: tuple[Words, ...]
    rows: tuple[tuple[Words, ...], ...]
    title: Words = ""

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.head)]
        if wrong:
            raise ValueError(f"a row must have {len(self.head)} cells, not {wrong[0]}")


@dataclass(frozen=True)
class Session:
    """Python as it was run: pairs of code and what it printed, which is empty for a line that says nothing."""

    lines: tuple[tuple[str, str], ...]
    title: Words = ""


@dataclass(frozen=True)
class Node:
    """A box of a graph: a leaf that the gradient is for, a constant, an operation, or the result.

    `details` are lines in small print below the label.
    """

    label: Words
    kind: Literal["leaf", "constant", "operation", "result"] = "operation"
    details: tuple[Words, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Boxes, and arrows from one to another by their places in `nodes`. It has no cycle."""

    nodes: tuple[Node, ...]
    arrows: tuple[tuple[int, int], ...]
    title: Words = ""


Block = Note | Table | Session | Graph
