"""Live Nets: learn PyTorch by running it. `python app.py` serves the page."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small nets lose time to threads
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is: nothing leaves this machine
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

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


if __name__ == "__main__":
    try:
        demo.launch(server_port=port(), **launch_options())
    except OSError as error:  # the port is taken
        sys.exit(f"{error} Or set PORT to another.")
