"""Limits on connections: number per address, and timeouts for sending a request and for reading the response.

uvicorn has no timeout for an incomplete request or for a client that does not read. Its `limit_concurrency` counts
idle connections of all clients together, so one client with many would block all others.
"""

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from server import client_address

HEAD_SECONDS = 10  # for the client to send the request line and headers
UNREAD_SECONDS = 60  # for the client to continue reading a response
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
