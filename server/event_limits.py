"""Limits on Gradio events: how many one client address may have at once, and that abandoned ones are cancelled."""

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import wraps
from typing import Any

import gradio as gr

from runs import turns
from runs.admission import Shares
from server import client_address, event_readers, gradio_adapter

EVENTS_PER_ADDRESS = 240  # at once: a class of thirty training, and its clicks

ABANDONED = "The client has disconnected."

_running: Counter[str] = Counter()  # events by address


def session_of(request: gr.Request) -> str:
    """The session hash of the page that sent the request. Raises gr.Error for a request without one."""
    if not request.session_hash:
        raise gr.Error("This endpoint needs an open page; call /train instead.", print_exception=False)
    return str(request.session_hash)


def address_of(request: gr.Request) -> str:
    """The client's address."""
    peer = request.client.host if request.client else client_address.NO_ADDRESS
    return client_address.behind_proxies(peer, request.headers.getlist("x-forwarded-for"))


def limited(
    handler: Callable[..., Any], shares: Shares | None = None, *, wait_for_reader: bool = False
) -> Callable[..., Any]:
    """The event handler as an async function that respects the limits of the client's address.

    Gradio limits the running events of all clients together. Here each address may run EVENTS_PER_ADDRESS; more raise
    gr.Error. A generator, a handler with `shares`, and one with `wait_for_reader` start only when a client reads the
    answer. All handlers are cancelled when no client reads the answer.
    """
    if inspect.isasyncgenfunction(handler):

        @wraps(handler)
        async def streaming(*arguments: Any) -> Any:
            with _counted() as (_, event):
                async with _cancelled_if_abandoned(event):
                    await event.first_reader()
                async with aclosing(handler(*arguments)) as values:
                    while True:
                        try:
                            async with _cancelled_if_abandoned(event):
                                value = await anext(values)
                        except StopAsyncIteration:
                            return
                        yield value

        return streaming

    @wraps(handler)
    async def answering(*arguments: Any) -> Any:
        with _counted() as (address, event):
            async with _cancelled_if_abandoned(event):
                if wait_for_reader or shares is not None:
                    await event.first_reader()
                if shares is None:
                    return await handler(*arguments)
                async with shares.of(address):
                    return await handler(*arguments)

    return answering


@asynccontextmanager
async def _cancelled_if_abandoned(event: event_readers.Event) -> AsyncIterator[None]:
    try:
        async with event.cancelled_if_abandoned():
            yield
    except event_readers.AbandonedError as error:
        raise gr.Error(ABANDONED, print_exception=False) from error


@contextmanager
def _counted() -> Iterator[tuple[str, event_readers.Event]]:
    """Count the running event; yield its client's address and the tracker of its readers."""
    request = gradio_adapter.current_request()
    address = client_address.NO_ADDRESS if request is None else address_of(request)
    if _running[address] >= EVENTS_PER_ADDRESS:
        raise gr.Error("Too many requests from your address at once. Please try again.", print_exception=False)
    turns.address.set(address)  # read by everything that the handler calls
    _running[address] += 1
    try:
        with event_readers.answering(_stream_names(request)) as event:
            yield address, event
    finally:
        _running[address] -= 1
        if not _running[address]:
            del _running[address]


def _stream_names(request: gr.Request | None) -> frozenset[str]:
    """Names of the streams that can carry the answer: the request's own, or else those of its event and its page."""
    http_request = None if request is None else request.request
    scope = {} if http_request is None else http_request.scope
    if event_readers.DIRECT in scope:
        return frozenset({scope[event_readers.DIRECT]})
    event = gradio_adapter.current_event_id()
    if event is None:  # called without Gradio's queue
        return frozenset()
    session = None if request is None else request.session_hash
    return frozenset({event} if session is None else {event, session})
