"""The live channel: one WebSocket a page, /live, for the page's commands and the server's frames.

A page says hello with a name that it has made up, so that it finds its runs again after a lost connection. All limits
of one client address are here; what a command means is left to the page object that `open_page` creates.
"""

import asyncio
import itertools
import json
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.websockets import WebSocket, WebSocketDisconnect

from runs import turns
from runs.admission import Shares
from runs.turns import Allowance
from server import client_address

PATH = "/live"
LARGEST_MESSAGE = 64 * 1024  # bytes, of a message from a page
SOCKETS_PER_ADDRESS = 100
COMMANDS_A_SECOND, COMMANDS_AT_ONCE = 50, 100  # of an address; more wait
UNFINISHED_PER_ADDRESS = 200  # commands that are executed at the same time; more are not read yet
HELLO_SECONDS = 10  # for a page to say hello
MOST_UNSENT = 2 * 2**20  # characters of messages that wait for a slow reader
GRACE_SECONDS = 30  # that the runs of a page are kept after it has lost its connection
MOST_WAITING_PAGES = 500  # pages without a connection whose runs are kept
PING_SECONDS = 5  # between pings, and for the answer: a dead page is noticed in 10 seconds

# Close codes, which channel.js knows too: https://www.rfc-editor.org/rfc/rfc6455#section-7.4.2
OUTDATED, REPLACED, SLOW, MALFORMED = 4000, 4001, 4002, 4003
TRY_LATER, GOING_AWAY = 1013, 1012
LEFT = (1000, 1001)

NAME = re.compile("[0-9a-f]{32}")

_log = logging.getLogger(__name__)


class Page(Protocol):
    """An open page. `receive` must not wait for long: it starts tasks."""

    name: str
    address: str

    def attach(self, channel: "Channel") -> None:
        """Send to this channel from now on."""

    def detach(self) -> None:
        """The connection is lost: pause, and send nothing."""

    def receive(self, message: Mapping[str, Any]) -> "asyncio.Task[None] | None":
        """Handle a message. Raises nothing. Returns the task that executes a command, if there is one."""

    def close(self) -> None:
        """The page was closed, or has been away for GRACE_SECONDS."""


class Channel:
    """What is sent to one socket: messages in order, and of frames of one kind only the newest."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._numbers = itertools.count()
        self._unsent: dict[object, str] = {}  # in order of sending
        self._size = 0
        self._filled = asyncio.Event()
        self._closing: int | None = None

    def send(self, message: str) -> None:
        """Send a message that must arrive, or else the connection is closed."""
        self._put(next(self._numbers), message)

    def send_frame(self, kind: str, message: str) -> None:
        """Send a frame, in place of an unsent one of that kind."""
        self._size -= len(self._unsent.pop(kind, ""))
        self._put(kind, message)

    def close(self, code: int) -> None:
        """Close the connection with that code, after the messages so far."""
        if self._closing is None:
            self._closing = code
        self._filled.set()

    def _put(self, key: object, message: str) -> None:
        if self._closing is not None:
            return
        self._unsent[key] = message
        self._size += len(message)
        if self._size > MOST_UNSENT:
            self._unsent.clear()
            self.close(SLOW)
        self._filled.set()

    async def write(self) -> None:
        """Send until the connection is closed. Raises WebSocketDisconnect if it is lost.

        `BoundedWebSocket` aborts the connection of a page that reads nothing.
        """
        while self._closing is None or self._unsent:
            await self._filled.wait()
            while self._unsent:
                key = next(iter(self._unsent))
                message = self._unsent.pop(key)
                self._size -= len(message)
                await self._websocket.send_text(message)
            self._filled.clear()
        with suppress(RuntimeError):  # the page has closed it at the same time
            await self._websocket.close(self._closing)


class LiveChannel:
    """The endpoint. `open_page` creates the object of a new page; pages of another `version` are told to reload."""

    def __init__(self, open_page: Callable[[str, str], Page], version: str) -> None:
        self._open_page = open_page
        self._version = version
        self._pages: dict[tuple[str, str], Page] = {}  # by address and name
        self._channels: dict[Page, Channel] = {}  # of connected pages
        self._leaving: dict[Page, asyncio.TimerHandle] = {}
        self._sockets: Counter[str] = Counter()
        self._commands = Allowance(COMMANDS_A_SECOND * 60, most=COMMANDS_AT_ONCE)
        self._unfinished = Shares(UNFINISHED_PER_ADDRESS)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one socket until it is closed."""
        address = client_address.of_scope(websocket.scope)
        if not _is_own(websocket):
            await websocket.close()  # before it is accepted: status 403
            return
        await websocket.accept()
        if self._sockets[address] >= SOCKETS_PER_ADDRESS:
            await websocket.close(TRY_LATER, "Too many open pages from your address.")
            return
        self._sockets[address] += 1
        try:
            await self._serve(websocket, address)
        except WebSocketDisconnect:
            pass
        finally:
            self._sockets[address] -= 1
            if not self._sockets[address]:
                del self._sockets[address]

    def close_all(self) -> None:
        """Close all connections, since the server is shutting down; the pages connect to another one."""
        for channel in self._channels.values():
            channel.close(GOING_AWAY)

    async def _serve(self, websocket: WebSocket, address: str) -> None:
        name = await self._hello(websocket)
        if name is None:
            return
        await self._allow(address)
        turns.address.set(address)  # read by everything that commands call
        page = self._page(address, name)
        channel = self._channels[page] = Channel(websocket)
        page.attach(channel)
        writing = asyncio.create_task(channel.write())
        reading = asyncio.create_task(self._read(websocket, address, page, channel))
        try:
            await asyncio.wait([writing, reading], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, reading):
                task.cancel()
            results = await asyncio.gather(writing, reading, return_exceptions=True)
            if self._channels.get(page) is channel:
                del self._channels[page]
                page.detach()
                self._wait_for(page, 0 if any(map(_was_left, results)) else GRACE_SECONDS)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
                _log.error("live channel failed", exc_info=result)

    async def _hello(self, websocket: WebSocket) -> str | None:
        """The name of the page that says hello; None if the connection was closed for another message."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                message = _parsed(await _received(websocket))
        except TimeoutError:
            message = None
        hello = (message or {}).get("hello")
        hello = hello if isinstance(hello, dict) else {}
        name = hello.get("page")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            await websocket.close(MALFORMED, "A page must say hello.")
            return None
        if hello.get("version") != self._version:
            await websocket.close(OUTDATED, "The page is of another version.")
            return None
        await websocket.send_text(json.dumps({"welcome": True}))
        return name

    def _page(self, address: str, name: str) -> Page:
        page = self._pages.get((address, name))
        if page is None:
            page = self._pages[address, name] = self._open_page(name, address)
        if page in self._leaving:
            self._leaving.pop(page).cancel()
        if page in self._channels:  # the old connection is dead, or the page was copied with its name
            self._channels[page].close(REPLACED)
            page.detach()
        return page

    def _wait_for(self, page: Page, seconds: float) -> None:
        """Close the page unless it connects again; of too many, one of the address with the most is closed at once."""
        self._leaving[page] = asyncio.get_running_loop().call_later(seconds, self._close, page)
        if len(self._leaving) > MOST_WAITING_PAGES:
            ((most, _),) = Counter(each.address for each in self._leaving).most_common(1)
            self._close(next(each for each in self._leaving if each.address == most))

    def _close(self, page: Page) -> None:
        self._leaving.pop(page).cancel()
        del self._pages[page.address, page.name]
        page.close()

    async def _read(self, websocket: WebSocket, address: str, page: Page, channel: Channel) -> None:
        unfinished = self._unfinished.of(address)
        while (message := _parsed(await _received(websocket))) is not None:
            await self._allow(address)
            if "ping" in message:
                channel.send('{"pong": true}')
                continue
            await unfinished.acquire()
            task = page.receive(message)
            if task is None:
                unfinished.release()
            else:
                task.add_done_callback(lambda _: unfinished.release())
        channel.close(MALFORMED)
        await asyncio.Event().wait()  # until it is closed

    async def _allow(self, address: str) -> None:
        """Wait until the address may send a command."""
        self._commands.spend(address, 1)
        await asyncio.sleep(self._commands.wait(address))


def _was_left(result: object) -> bool:
    """Whether the visitor has closed or reloaded the page, which then does not connect again."""
    return isinstance(result, WebSocketDisconnect) and result.code in LEFT


async def _received(websocket: WebSocket) -> str | None:
    """The text of the next message; None if it was binary."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006))
    text: str | None = message.get("text")
    return text


def _parsed(text: str | None) -> dict[str, Any] | None:
    """The JSON object in a message, or None."""
    try:
        message = json.loads(text or "", parse_constant=_finite, parse_float=_finite)
        json.dumps(message, ensure_ascii=False).encode()  # lone surrogates cannot be sent back
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _finite(token: str) -> float:
    """The number. Raises ValueError for NaN and infinities, which JSON does not have, and 1e999."""
    value = float(token)
    if not math.isfinite(value):
        raise ValueError(token)
    return value


def _is_own(websocket: WebSocket) -> bool:
    """Whether the Origin is that of this server's page or, as for clients that are no browsers, missing.

    CORS does not apply to WebSockets: a script of any site can open one. Browsers let no script set the headers that
    name the host.
    """
    origin = websocket.headers.get("origin")
    if not origin:
        return True
    names = [websocket.headers.get(name, "").split(",")[0].strip() for name in ("host", "x-forwarded-host")]
    names.append(os.environ.get("SPACE_HOST", ""))  # on Hugging Face, whose proxy may call the server otherwise
    own = {name.lower().removesuffix(":80").removesuffix(":443") for name in names if name}
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return False
    return parts.netloc.removesuffix({"http": ":80", "https": ":443"}.get(parts.scheme, "")) in own
