"""The log on stderr: one line for each event, without addresses, sessions or settings of visitors."""

import logging
import os
import sys

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class OneLine(logging.Formatter):
    """Formats a record, with its traceback, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return " ⏎ ".join(super().format(record).splitlines())


def level() -> str:
    """The log level: LOG_LEVEL, by default INFO. Exits with a message if it is not one of LEVELS."""
    name = os.environ.get("LOG_LEVEL", "INFO")
    if name not in LEVELS:
        sys.exit(f"LOG_LEVEL must be one of {', '.join(LEVELS)}, not {name!r}.")
    return name


def set_up() -> None:
    """Log to stderr, from `level()` up. Call it once, before the server starts."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns if a killed worker has already exited
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # uvicorn warns of every malformed request
    for package in ("runs", "server", "tabs"):
        logging.getLogger(package).setLevel(level())
