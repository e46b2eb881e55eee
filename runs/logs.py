"""The log: one line an event, on stderr, and nothing of a visitor in it: no address, no session, no setting."""

import logging
import os
import sys

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class OneLine(logging.Formatter):
    """A record in a line, its traceback too."""

    def format(self, record: logging.LogRecord) -> str:
        return " ⏎ ".join(super().format(record).splitlines())


def set_up() -> None:
    """Log from LOG_LEVEL on, which is INFO unless it is set. Ends the program for a level that is none.

    To be called once more when a server has begun to serve, which has set up a log of its own.
    """
    level = os.environ.get("LOG_LEVEL", "INFO")
    if level not in LEVELS:
        sys.exit(f"LOG_LEVEL must be one of {', '.join(LEVELS)}, not {level!r}.")
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])  # the first time; then it stays
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of a worker that had ended when it was killed
    for server in ("uvicorn", "uvicorn.error"):  # which has handlers of its own as soon as it serves
        logging.getLogger(server).handlers.clear()
        logging.getLogger(server).propagate = True
        logging.getLogger(server).setLevel(logging.ERROR)  # it warns of every request that is none
    for ours in ("runs", "server", "tabs"):
        logging.getLogger(ours).setLevel(level)
