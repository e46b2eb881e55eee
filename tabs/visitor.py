"""Who asks: a visitor's page, by the name that Gradio gave it, and the address that the request came from."""

import os
import sys

import gradio as gr

NO_ADDRESS = "unknown"  # of a request that is not from a network


def session(request: gr.Request) -> str:
    """The visitor's page. Raises gr.Error for a caller that has none."""
    if not request.session_hash:
        raise gr.Error("This belongs to an open page; use /train instead.", print_exception=False)
    return str(request.session_hash)


def proxies() -> int:
    """How many proxies of one's own requests come through: LIVE_NETS_PROXIES, or 1 on a Space, or else none.

    Ends the program for a value that is no whole number from 0 to 9.
    """
    text = os.environ.get("LIVE_NETS_PROXIES", "1" if os.environ.get("SPACE_ID") else "0")
    if text not in map(str, range(10)):
        sys.exit(f"LIVE_NETS_PROXIES must be a whole number from 0 to 9, not {text!r}.")
    return int(text)


def address(request: gr.Request) -> str:
    """Where the request came from: the machine that spoke to the outermost of our own proxies.

    Each proxy appends to X-Forwarded-For whom it was asked by; what stands before that, anybody may have written.
    """
    peer = request.client.host if request.client else NO_ADDRESS
    count = proxies()
    if not count:
        return peer
    told = [part.strip() for part in request.headers.get("x-forwarded-for", "").split(",") if part.strip()]
    return told[-min(count, len(told))] if told else peer
