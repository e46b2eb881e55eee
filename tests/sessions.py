"""What Python's own interactive mode prints, against which the sessions that lessons show are held."""

import ast
import contextlib
import io
from collections.abc import Callable, Iterable

from charts.blocks import Block, PythonSession
from lab.transcript import first_line

Lines = list[tuple[str, str]]  # pairs of code and what it prints


def shown(blocks: Iterable[Block]) -> Lines:
    """The lines of all sessions among the blocks."""
    return [line for block in blocks if isinstance(block, PythonSession) for line in block.lines]


def replayed(lines: Iterable[tuple[str, str]], told: Callable[[Exception], str] = first_line, **names: object) -> Lines:
    """The same code, run anew in one namespace, with what Python prints; an error as `told` says."""
    printed = []
    for code, _ in lines:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            try:
                exec(compile(ast.Interactive(ast.parse(code).body), "<session>", "single"), names)
            except Exception as error:
                print(told(error))
        printed.append((code, output.getvalue().rstrip("\n")))
    return printed
