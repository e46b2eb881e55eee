"""Live Nets: learn PyTorch by running it. `python app.py` serves the page."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small nets lose time to threads
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is: nothing leaves this machine
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from tabs.page import build, launch_options

demo = build()

if __name__ == "__main__":
    port = os.environ.get("PORT")
    demo.launch(server_port=int(port) if port else None, **launch_options())
