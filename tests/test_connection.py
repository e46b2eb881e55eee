"""Connections that would hold the server up: half a request, answers not read, too many, WebSockets of dead peers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from server import connection
from server.connection import BoundedConnection, BoundedWebSocket
from tests.test_runs import go

WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Wire(asyncio.Transport):
    """A connection's other end: what was written, and whether it was closed."""

    def __init__(self, host: str) -> None:
        super().__init__({"peername": (host, 1), "sockname": ("here", 2)})
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("answer")(scope, receive, send)


async def turn_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def connect(host: str = "a") -> tuple[BoundedConnection, Wire]:
    made, wire = BoundedConnection(Config(answer), ServerState(), {}), Wire(host)
    made.connection_made(wire)
    return made, wire


def at_once(story: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell it with no patience at all."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0)
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0)
    go(story())
    assert not connection._open


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nA"])
def test_half_a_request_is_not_waited_for(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        made, wire = connect()
        for number in range(len(sent)):  # byte by byte, which is no excuse
            made.data_received(sent[number : number + 1])
        await turn_loop()
        assert wire.closed
        made.connection_lost(None)

    at_once(story, monkeypatch)


@pytest.mark.parametrize(
    "more",
    [b"GET / HT", b"x"],
    ids=["half of the next request", "a body that nobody reads"],
)
def test_after_an_answer_it_is_the_same(more: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    head = WHOLE if more != b"x" else b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"

    async def story() -> None:
        made, wire = connect()
        made.data_received(head)
        await turn_loop()
        closed = [wire.closed]  # not yet, as its request has come
        made.data_received(more)
        await turn_loop()
        assert wire.written.endswith(b"answer")
        assert [*closed, wire.closed] == [False, True]
        made.connection_lost(None)

    at_once(story, monkeypatch)


def test_an_answer_that_is_not_read_is_given_up_and_one_that_is_read_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        (slow, slow_wire), (quick, quick_wire) = connect(), connect()
        for each in (slow, quick):
            each.data_received(WHOLE)
            each.pause_writing()
        quick.resume_writing()
        await turn_loop()
        assert (slow_wire.closed, quick_wire.closed) == (True, False)
        for each in (slow, quick):
            each.connection_lost(None)

    at_once(story, monkeypatch)


def test_an_address_has_so_many_connections_and_others_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_OF_ADDRESS", 2)

    async def story() -> None:
        made = [connect(host) for host in "aaab"]
        assert [wire.closed for _, wire in made] == [False, False, True, False]
        assert connection.TOO_MANY.encode() in made[2][1].written
        made[2][0].connection_lost(None)
        made[0][0].connection_lost(None)
        made.append(connect("a"))
        assert not made[-1][1].closed
        for each, _ in (made[1], *made[3:]):
            each.connection_lost(None)
        monkeypatch.setenv("LIVE_NETS_PROXIES", "1")  # whose they are is not known yet
        assert not any(wire.closed for _, wire in [connect("proxy") for _ in range(3)])

    go(story())
    assert not connection._open


HANDSHAKE = (
    b"GET /live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
PING, TEXT = b"\x89\x80\0\0\0\0", b"\x81\x81\0\0\0\0"  # masked with zeros, as all that clients send


async def connect_websocket() -> tuple[BoundedWebSocket, Wire]:
    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    made, wire = BoundedWebSocket(Config(accept), ServerState(), {}), Wire("a")
    made.connection_made(wire)
    made.data_received(HANDSHAKE)
    await turn_loop()
    assert wire.written.startswith(b"HTTP/1.1 101")
    return made, wire


def test_a_dead_page_is_given_up_even_if_it_has_not_read_what_it_was_sent() -> None:
    async def story() -> None:
        made, wire = await connect_websocket()
        made.send_keepalive_ping()
        made.pause_writing()
        closed = [wire.closed]
        made.keepalive_timeout()
        assert [*closed, wire.closed] == [False, True]
        made.connection_lost(None)

    go(story())


def test_a_page_that_reads_nothing_is_not_listened_to() -> None:
    async def story() -> None:
        made, wire = await connect_websocket()
        made.data_received(PING)
        assert wire.written.endswith(b"\x8a\0")  # its answer
        reading = []
        for change in (made.pause_writing, made.resume_writing, lambda: made.data_received(TEXT + b"x")):
            change()
            reading.append(wire.reading)
        made.pause_writing()
        made.resume_writing()
        assert [*reading, wire.reading] == [False, True, False, False]  # until the app has received the message
        made.connection_lost(None)

    go(story())


def test_text_that_is_not_utf8_closes_the_connection_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        made, wire = await connect_websocket()
        made.data_received(TEXT + b"\xff")
        assert wire.written.endswith((1007).to_bytes(2, "big"))
        assert wire.closed
        made.connection_lost(None)

    go(story())
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
