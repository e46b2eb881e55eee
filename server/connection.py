"""Limits on connections: number per address, timeouts for sending a request and for reading the response, dead peers.

uvicorn has no timeout for an incomplete request or for a client that does not read. Its `limit_concurrency` counts
idle connections of all clients together, so one client with many would block all others.
"""

import asyncio
import socket
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from server import client_address

HEAD_SECONDS = 10  # for the client to send the request line and headers
UNREAD_SECONDS = 60  # for the client to continue reading a response
CLOSE_SECONDS = 10  # for the client to read what precedes the end of a WebSocket connection
SEND_BUFFER = 64 * 1024  # bytes, of a WebSocket connection in the kernel, which doubles it
INVALID_DATA = 1007  # close code for text that is not UTF-8: RFC 6455, 7.4.1
MOST_OF_ADDRESS = 600  # connections; a class of thirty has up to 180, six for each browser

TOO_MANY = "Too many connections from your address."
_REFUSAL = (
    f"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: {len(TOO_MANY)}\r\n"
    f"Connection: close\r\n\r\n{TOO_MANY}"
).encode()

_open: Counter[str] = Counter()  # connections by address


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection with these limits. Behind our own proxies, connections are not counted."""

    _address = ""  # empty if the connection is not counted
    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        if self.client is not None and not client_address.proxies():
            self._address = client_address.canonical(self.client[0])
            _open[self._address] += 1
            if _open[self._address] > MOST_OF_ADDRESS:
                transport.write(_REFUSAL)
                transport.close()
                return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._leave()  # another protocol takes over the connection
        super().handle_websocket_upgrade(event)

    def data_received(self, data: bytes) -> None:
        # Also after a response: uvicorn parses the rest of an unread body as a new request.
        if self._is_between_requests() and self._head_timer is None:
            self._start_head_timer()
        super().data_received(data)
        if self._head_timer is not None and not self._is_between_requests():
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _leave(self) -> None:
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._unread_timer = None
        if self._address:
            _open[self._address] -= 1
            if not _open[self._address]:
                del _open[self._address]
            self._address = ""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket connection, aborted if the client is dead or reads nothing.

    uvicorn closes such a connection only after the client has read what is buffered, which it never does.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Small buffers: frames that wait here are outdated when they arrive; the live channel replaces them.
        self.transport.set_write_buffer_limits(0)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()  # else the answers to its pings fill the memory

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):  # uvicorn logs a traceback
            self.conn.send_close(INVALID_DATA)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
