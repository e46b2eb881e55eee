"""Live Nets: learn PyTorch by running it. `python app.py` serves the page."""

import os
import signal
import threading

import environment

environment.fix_arithmetic()  # before torch is imported, and numpy
environment.ignore_proxies()  # before gradio is
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is: nothing leaves this machine
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Of forwarding headers the app believes what LIVE_NETS_PROXIES says, and uvicorn none: not those of a tunnel here, say.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
# After every event, Gradio has pandas sum up all events for a page of statistics that is switched off here.
os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"], os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = str(10**9), "1"

from tabs import files, listening

files.own_cache()  # before gradio is imported, which remembers where it was; `listening` is, too

from runs import logs
from tabs import service, visitor
from tabs.page import build, launch_options

demo = build()


def main() -> None:
    """Serve until the process is told to end."""
    environment.set_up_console()
    logs.set_up()
    visitor.proxies()  # what is wrong with the environment is told now, and not to the first visitor
    service.worker_count()
    service.open_files()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with service.listening_at(*listening.opened()):
        demo.launch(prevent_thread_lock=True, **launch_options())
    logs.set_up()
    while not ended.wait(1):  # by the second, since Windows hands no signal to a wait without an end
        pass
    service.close(demo)


if __name__ == "__main__":
    main()
