"""Settings that make trained weights, requests to the app itself and console output independent of the machine.

Imports only the standard library, because its functions are called before torch, numpy and gradio are imported.
"""

import io
import os
import sys

# Prefixes of settings of OpenMP and of the math libraries of torch and numpy: threads, instruction sets, precision.
_ARITHMETIC = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "MKLDNN_", "ONEDNN_", "DNNL_", "ATEN_"),
    *("OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "NUMEXPR_", "NPY_"),
)
_NEEDED_TO_START = "KMP_DUPLICATE_LIB_OK"  # without it, a program aborts if two copies of OpenMP are loaded
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")  # read for every HTTP client, even without TLS


def fix_arithmetic() -> None:
    """Use one thread and, with MKL, the same summation order on every x86 processor, regardless of the environment.

    The number of threads changes the order of summation, so that the same seed would give different weights; threads
    also slow down small nets. MKL's kernels and their summation order depend on the processor. Conditional numerical
    reproducibility makes them agree, at a cost of about 20 % of the time (oneMKL Developer Guide, "Obtaining
    Numerically Reproducible Results"). Call it before torch is imported; child processes inherit the settings.
    """
    for name in [name for name in os.environ if name.upper().startswith(_ARITHMETIC) and name != _NEEDED_TO_START]:
        del os.environ[name]
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["MKL_CBWR"] = "COMPATIBLE"


def ignore_proxies() -> None:
    """Disable proxies for all HTTP requests of this process and its children.

    The app needs none, and httpx clients that gradio creates when it is imported fail on malformed values. `no_proxy`
    also disables the proxies of the system settings, which urllib reads on Windows and macOS.
    """
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name in _CERTIFICATES]:
        del os.environ[name]
    os.environ["no_proxy"] = "*"


def configure_gradio() -> None:
    """Disable telemetry, and the aggregation of statistics for a page that is not served.

    Call it before gradio is imported.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # By default Gradio aggregates all events with pandas after each event.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"], os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = str(10**9), "1"


def set_up_console() -> None:
    """Escape characters that the encoding of stdout or stderr lacks, for example as \\u5b66."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None without a console; another class in tests
            stream.reconfigure(errors="backslashreplace")
