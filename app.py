"""Live Nets: learn PyTorch by running it. `python app.py` serves the page."""

import os
import signal
import sys
import threading

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small nets lose time to threads
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is: nothing leaves this machine
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Of forwarding headers the app believes what LIVE_NETS_PROXIES says, and uvicorn none: not those of a tunnel here, say.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
# After every event, Gradio has pandas sum up all events for a page of statistics that is switched off here.
os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"], os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = str(10**9), "1"

from tabs import files

files.own_cache()  # before gradio is imported, which remembers where it was

from runs import logs
from tabs import service, visitor
from tabs.page import build, launch_options

demo = build()


def port() -> int | None:
    """PORT, or None for Gradio's own choice: GRADIO_SERVER_PORT, or 7860 or the next that is free."""
    text = os.environ.get("PORT", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        sys.exit(f"PORT must be a whole number from 1 to 65535, not {text!r}.")
    return int(text)


def main() -> None:
    """Serve until the process is told to end."""
    logs.set_up()
    visitor.proxies()  # what is wrong with the environment is told now, and not to the first visitor
    service.worker_count()
    service.open_files()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        demo.launch(server_port=port(), prevent_thread_lock=True, **launch_options())
        logs.set_up()
    except OSError as error:  # the port is taken
        sys.exit(f"{error} Or set PORT to another.")
    while not ended.wait(1):  # by the second, since Windows hands no signal to a wait without an end
        pass
    service.close(demo)


if __name__ == "__main__":
    main()
