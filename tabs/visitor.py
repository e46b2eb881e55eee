"""Who asks: a visitor's page, by the name that Gradio gave it, and the address that the request came from."""

import inspect
import ipaddress
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import lru_cache, wraps
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from runs import turns
from runs.visitors import Shares
from tabs import attendance

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
    """The same of whom the connection is with, and all lines of X-Forwarded-For: a proxy may add one of its own.

    As `one_client` writes it.
    """
    count = proxies()
    told = [part.strip() for line in forwarded for part in line.split(",") if part.strip()] if count else []
    return one_client(told[-min(count, len(told))] if told else peer)


@lru_cache(1000)
def one_client(text: str) -> str:
    """The same text for all addresses that one client can have, as limits go by it; what is no address stays.

    An IPv4 address is the same if it is written as IPv6, `::ffff:192.0.2.1`. Of IPv6, whoever has one address has all
    64 bits of its network to choose from (RFC 6177, section 2), so that the network counts. Brackets, ports and zones,
    as some proxies add them, are left out.
    """
    bracketed = re.fullmatch(r"\[([^\]]*)\](:[0-9]+)?", text)
    host = bracketed[1] if bracketed else re.sub(r"^([0-9.]+):[0-9]+$", r"\1", text)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


MOST_EVENTS = 240  # of an address at once: a class in training, and its clicks

_events: Counter[str] = Counter()


ABANDONED = "Nobody waits for this any more."


def fair(handler: Callable[..., Any], shares: Shares | None = None, *, once_read: bool = False) -> Callable[..., Any]:
    """The handler of an event, async, for no more than MOST_EVENTS of an address at once, and within its share.

    Gradio runs so many events at once and no more, whosever they are. Those that are too many raise gr.Error. What has
    a share, gives one answer after the other, or is to wait until it is `once_read`, begins when somebody reads its
    answers. All are cancelled when nobody does any more.
    """
    if inspect.isasyncgenfunction(handler):

        @wraps(handler)
        async def streaming(*arguments: Any) -> Any:
            with _counted() as (_, event):
                async with _awaited(event):
                    await event.read()
                async with aclosing(handler(*arguments)) as given:
                    while True:
                        try:
                            async with _awaited(event):
                                shown = await anext(given)
                        except StopAsyncIteration:
                            return
                        yield shown

        return streaming

    @wraps(handler)
    async def answering(*arguments: Any) -> Any:
        with _counted() as (whose, event):
            async with _awaited(event):
                if once_read or shares is not None:
                    await event.read()
                if shares is None:
                    return await handler(*arguments)
                async with shares.of(whose):
                    return await handler(*arguments)

    return answering


@asynccontextmanager
async def _awaited(event: attendance.Event) -> AsyncIterator[None]:
    try:
        async with event.awaited():
            yield
    except attendance.AbandonedError as error:
        raise gr.Error(ABANDONED, print_exception=False) from error


@contextmanager
def _counted() -> Iterator[tuple[str, attendance.Event]]:
    """The address of the event that is being answered, and who waits for it."""
    request = LocalContext.request.get(None)
    whose = NO_ADDRESS if request is None else address(request)
    if _events[whose] >= MOST_EVENTS:
        raise gr.Error("Too many requests from your address at once. Please try again.", print_exception=False)
    turns.address.set(whose)  # for all that the handler calls
    _events[whose] += 1
    try:
        with attendance.answering(_names(request)) as event:
            yield whose, event
    finally:
        _events[whose] -= 1
        if not _events[whose]:
            del _events[whose]


def _names(request: gr.Request | None) -> frozenset[str]:
    """What a stream that reads the answer is for: the request itself, or else the page or the event."""
    asked = None if request is None else request.request
    scope = {} if asked is None else asked.scope
    if attendance.DIRECT in scope:
        return frozenset({scope[attendance.DIRECT]})
    event = LocalContext.event_id.get(None)
    if event is None:  # it did not come through the queue
        return frozenset()
    session = None if request is None else request.session_hash
    return frozenset({event} if session is None else {event, session})
