"""Interpreter sessions for lessons: run code statement by statement and record its actual output."""

import ast
import textwrap
from collections.abc import Callable

from charts.blocks import PythonSession
from charts.text import Words


def first_line(error: Exception) -> str:
    """Last line of the error's traceback, with only the first line of the message."""
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0].strip()}" if said else type(error).__name__


class Prompt:
    """An interactive Python interpreter. Its sessions share one namespace.

    Runs only code of the lessons, never of visitors. A visitor's input enters a source only as a validated value
    formatted with repr.
    """

    def __init__(self, **names: object) -> None:
        self.names: dict[str, object] = {**names, "print": self._print}
        self._printed: list[str] = []

    def session(
        self,
        source: str,
        title: Words = "",
        *,
        errors: tuple[type[Exception], ...] = (),
        told: Callable[[Exception], str] = first_line,
    ) -> PythonSession:
        """Run the source and return each statement with its output, as the interactive prompt shows it.

        An error of a type in `errors` becomes output, formatted by `told`. Any other error is raised.
        """
        source = textwrap.dedent(source).strip("\n")
        lines = source.splitlines()
        shown, end = [], 0
        for statement in ast.parse(source).body:
            assert statement.end_lineno is not None
            code = "\n".join(lines[end : statement.end_lineno]).strip("\n")  # including comments
            end = statement.end_lineno
            try:
                output = self._run(statement)
            except errors as error:
                output = told(error)
            shown.append((code, output))
        return PythonSession(tuple(shown), title)

    def _run(self, statement: ast.stmt) -> str:
        self._printed.clear()
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), "<session>", "eval"), self.names)  # noqa: S307
            if value is not None:
                self._print(repr(value))
        else:
            exec(compile(ast.Module([statement], []), "<session>", "exec"), self.names)  # noqa: S102
        return "\n".join(self._printed)

    def _print(self, *values: object, sep: str = " ") -> None:
        self._printed.append(sep.join(map(str, values)))
