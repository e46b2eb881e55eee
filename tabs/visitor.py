"""Who asks: a visitor's page, by the name that Gradio gave it, and the address that the request came from."""

import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import wraps
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from runs.visitors import Shares

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
    return address_of(peer, request.headers.getlist("x-forwarded-for"))


def address_of(peer: str, forwarded: Sequence[str]) -> str:
    """The same of whom the connection is with, and all lines of X-Forwarded-For: a proxy may add one of its own."""
    count = proxies()
    if not count:
        return peer
    told = [part.strip() for line in forwarded for part in line.split(",") if part.strip()]
    return told[-min(count, len(told))] if told else peer


MOST_EVENTS = 240  # of an address at once: a class in training, and its clicks

_events: Counter[str] = Counter()


def fair(handler: Callable[..., Any], shares: Shares | None = None) -> Callable[..., Any]:
    """The handler of an event, async, for no more than MOST_EVENTS of an address at once, and within its share.

    Gradio runs so many events at once and no more, whosever they are. Those that are too many raise gr.Error.
    """
    if inspect.isasyncgenfunction(handler):

        @wraps(handler)
        async def streaming(*arguments: Any) -> Any:
            with _counted():
                async with aclosing(handler(*arguments)) as given:
                    async for each in given:
                        yield each

        return streaming

    @wraps(handler)
    async def answering(*arguments: Any) -> Any:
        with _counted() as whose:
            if shares is None:
                return await handler(*arguments)
            async with shares.of(whose):
                return await handler(*arguments)

    return answering


@contextmanager
def _counted() -> Iterator[str]:
    request = LocalContext.request.get(None)
    whose = NO_ADDRESS if request is None else address(request)
    if _events[whose] >= MOST_EVENTS:
        raise gr.Error("Too many requests from your address at once. Please try again.", print_exception=False)
    _events[whose] += 1
    try:
        yield whose
    finally:
        _events[whose] -= 1
        if not _events[whose]:
            del _events[whose]
