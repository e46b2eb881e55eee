"""Output of the command line. Untrusted text is escaped: it cannot control the terminal or forge a line.

No other module in `export` prints, as a test verifies.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from charts.text import visible


def line(text: str, *, indent: int = 0, style: str = "") -> None:
    """Print one line, which the terminal may wrap."""
    _console().print(Text(" " * indent + visible(text), style), soft_wrap=True)


def table(columns: Sequence[str | Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; long cells are wrapped."""
    made = Table(*columns)
    for row in rows:
        made.add_row(*(Text(visible(cell)) for cell in row))
    _console().print(made)


def as_json(value: Any) -> None:
    """Print a value as JSON, in ASCII."""
    print(json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f"))


def error(message: str) -> None:
    """Print an error message to stderr."""
    print(f"error: {visible(message)}", file=sys.stderr)


def progress() -> Progress:
    """Progress bar on stderr, disabled if that is not a terminal."""
    console = Console(stderr=True, markup=False)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False, emoji=False)
