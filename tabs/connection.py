"""A client's connection, bounded: uvicorn waits for ever for a head that never comes whole, and for a client to read.

Its own `limit_concurrency` is no bound for that: it counts idle connections, and so whoever holds many has everybody
else refused. Here each address has so many, and each connection so long to send a request and to take its answer.
"""

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from tabs import visitor

HEAD_SECONDS = 10  # from the first byte, or from the connection, until a request has begun
UNREAD_SECONDS = 60  # that an answer may wait for its client to read on
MOST_OF_ADDRESS = 600  # connections; a class of thirty has up to 180, six of each browser

TOO_MANY = "Too many connections from your address."
_REFUSAL = (
    f"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: {len(TOO_MANY)}\r\n"
    f"Connection: close\r\n\r\n{TOO_MANY}"
).encode()

_open: Counter[str] = Counter()  # connections, by address


class Connection(H11Protocol):
    """uvicorn's, with these bounds. Behind proxies of one's own, connections are theirs, and bounded by them."""

    _address = ""  # empty where it is not counted
    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        if self.client is not None and not visitor.proxies():
            self._address = visitor.address_of(self.client[0], [])
            _open[self._address] += 1
            if _open[self._address] > MOST_OF_ADDRESS:
                transport.write(_REFUSAL)
                transport.close()
                return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._leave()  # from here on another protocol has the connection
        super().handle_websocket_upgrade(event)

    def data_received(self, data: bytes) -> None:
        # After an answer too, when more of a body may come that nobody reads: uvicorn takes any byte for a new request.
        if self._is_between_requests() and self._head is None:
            self._await_head()
        super().data_received(data)
        if self._head is not None and not self._is_between_requests():
            self._head.cancel()
            self._head = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader is None:
            self._reader = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def _await_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _leave(self) -> None:
        for timer in (self._head, self._reader):
            if timer is not None:
                timer.cancel()
        self._head = self._reader = None
        if self._address:
            _open[self._address] -= 1
            if not _open[self._address]:
                del _open[self._address]
            self._address = ""
