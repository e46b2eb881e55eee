"""Limits on Gradio events: how many one client address may have at once, and that abandoned ones are cancelled."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr

from runs import turns
from runs.admission import LONGEST_LINE_OF_ADDRESS, MOST_TRAINING_OF_ADDRESS
from server import client_address, event_readers, gradio_adapter

EVENTS_PER_ADDRESS = MOST_TRAINING_OF_ADDRESS + LONGEST_LINE_OF_ADDRESS  # at once

ENDED = "The client has disconnected, or the server is shutting down."

_running: Counter[str] = Counter()  # events by address


def address_of(request: gr.Request) -> str:
    """The client's address."""
    peer = request.client.host if request.client else client_address.NO_ADDRESS
    return client_address.behind_proxies(peer, request.headers.getlist("x-forwarded-for"))


def limited(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The event handler with limits: it starts when a client reads the answer, and is cancelled when none does.

    Gradio limits the running events of all clients together. Here each address may run EVENTS_PER_ADDRESS; more raise
    gr.Error.
    """

    @wraps(handler)
    async def answering(*arguments: Any) -> Any:
        request = gradio_adapter.current_request()
        with _counted(request):
            try:
                async with event_readers.answering(_stream_names(request)):
                    return await handler(*arguments)
            except event_readers.AbandonedError as error:
                raise gr.Error(ENDED, print_exception=False) from error

    return answering


@contextmanager
def _counted(request: gr.Request | None) -> Iterator[None]:
    """Count the running event by its client's address."""
    address = client_address.NO_ADDRESS if request is None else address_of(request)
    if _running[address] >= EVENTS_PER_ADDRESS:
        raise gr.Error("Too many requests from your address at once. Please try again.", print_exception=False)
    turns.address.set(address)  # read by everything that the handler calls
    _running[address] += 1
    try:
        yield
    finally:
        _running[address] -= 1
        if not _running[address]:
            del _running[address]


def _stream_names(request: gr.Request | None) -> frozenset[str]:
    """Names of the streams that can carry the answer: the request's own, or else those of its event and its session."""
    http_request = None if request is None else request.request
    scope = {} if http_request is None else http_request.scope
    if event_readers.DIRECT in scope:
        return frozenset({scope[event_readers.DIRECT]})
    event = gradio_adapter.current_event_id()
    if event is None:  # called without Gradio's queue
        return frozenset()
    session = None if request is None else request.session_hash
    return frozenset({event} if session is None else {event, session})
