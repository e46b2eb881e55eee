"""What must not depend on the machine that this runs on: the bits of a trained net, requests to itself, printing.

Imports the standard library alone: its functions are called before torch, numpy and gradio are imported.
"""

import io
import os
import sys

# Settings of OpenMP and of the libraries that torch and numpy compute with: threads, instruction sets, precision.
_ARITHMETIC = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "MKLDNN_", "ONEDNN_", "DNNL_", "ATEN_"),
    *("OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_"),
)
_NEEDED_TO_START = "KMP_DUPLICATE_LIB_OK"  # where two copies of OpenMP are installed, a program ends without it
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")  # read for every client, also of plain HTTP


def fix_arithmetic() -> None:
    """Compute on one thread and, with MKL, in one order on every x86 processor, whatever the environment says.

    With two threads, sums are added in another order: the same seed gives other weights. Small nets also lose time to
    threads. MKL's kernels differ by processor and add in other orders too; conditional numerical reproducibility
    makes them agree, for about a fifth of the time (oneMKL Developer Guide, "Obtaining Numerically Reproducible
    Results"). Call it before torch is imported; child processes inherit it.
    """
    for name in [name for name in os.environ if name.upper().startswith(_ARITHMETIC) and name != _NEEDED_TO_START]:
        del os.environ[name]
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["MKL_CBWR"] = "COMPATIBLE"


def ignore_proxies() -> None:
    """Send every request of this process and its children straight to its host.

    For the app, whose requests go to itself: Gradio asks its own server whether it is up. `no_proxy` also switches off
    the proxies of the system settings, which urllib reads on Windows and macOS if no variable names one.
    """
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name in _CERTIFICATES]:
        del os.environ[name]
    os.environ["no_proxy"] = "*"


def configure_gradio() -> None:
    """Switch off telemetry, and work that is done for a statistics page which is switched off here.

    Call it before gradio is imported.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # After every event, Gradio has pandas summarize all events.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"], os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = str(10**9), "1"
    # LIVE_NETS_PROXIES says which forwarding headers to trust, so uvicorn must trust none, not even from this machine.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")


def set_up_console() -> None:
    """Print characters that the encoding of stdout or stderr lacks as escapes, such as \\u5b66."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where there is no console, and another class in tests
            stream.reconfigure(errors="backslashreplace")
