"""Python sessions that lessons show: the code is run statement by statement, and what is shown is what it gave."""

import ast
import textwrap
from collections.abc import Callable

from charts.blocks import Session
from charts.text import Words


def first_line(error: Exception) -> str:
    """An error as the last line of a traceback has it, without the rest of a long message."""
    said = str(error).strip()
    return f"{type(error).__name__}: {said.splitlines()[0].strip()}" if said else type(error).__name__


class Prompt:
    """An interactive Python with names of its own, which sessions share: what one has set, the next one knows.

    Runs the lessons' own code, never a visitor's: a value of a visitor's that is written into a source is one that
    has been checked, written by repr.
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
    ) -> Session:
        """Run the source, and show each statement with what it printed, as the interactive prompt does.

        An error of one of the types in `errors` is part of the session, and shown as `told` says; any other is raised.
        """
        source = textwrap.dedent(source).strip("\n")
        lines = source.splitlines()
        shown, end = [], 0
        for statement in ast.parse(source).body:
            assert statement.end_lineno is not None
            code = "\n".join(lines[end : statement.end_lineno]).strip("\n")  # with its comments
            end = statement.end_lineno
            try:
                output = self._run(statement)
            except errors as error:
                output = told(error)
            shown.append((code, output))
        return Session(tuple(shown), title)

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
