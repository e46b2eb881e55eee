"""Live Nets: learn PyTorch by running it. `python app.py` serves the page."""

import signal
import sys
from types import FrameType
from typing import NoReturn

import environment

environment.fix_arithmetic()  # before torch and numpy are imported
environment.ignore_proxies()  # before gradio is imported
environment.configure_gradio()

from server import settings, sockets, temporary_files  # sockets, too, before gradio is imported

if __name__ == "__main__":
    environment.set_up_console()
    settings.check()  # before the slow imports

temporary_files.use_own_folder()  # before gradio is imported, which stores the path

from runs import logs
from server import application
from tabs import page

demo = page.build()
app = page.create_application(demo)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def main() -> None:
    """Serve until the process gets SIGTERM or SIGINT."""
    logs.set_up()
    settings.raise_open_file_limit()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)  # uvicorn handles them while it serves, and raises them again afterwards
    application.serve(app, *sockets.open_sockets())


if __name__ == "__main__":
    main()
