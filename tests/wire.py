"""A connection that can be cut: forwards to a local port whatever connects."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Wire:
    """Listens on `port`, and forwards each connection to the port `to` until it is cut."""

    def __init__(self, to: int) -> None:
        self.to = to
        self._whole = True
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def cut(self) -> None:
        """Break all connections, and each new one."""
        self._whole = False
        for each in list(self._open):
            _break(each)

    def mend(self, to: int | None = None) -> None:
        """Forward again, to another port if one is given."""
        self.to = to or self.to
        self._whole = True

    def close(self) -> None:
        _break(self._listener)
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.to)) if self._whole else None
                except OSError:
                    server = None
                if server is None:
                    client.close()
                    continue
                self._open |= {client, server}
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            _break(each)
            self._open.discard(each)


def _break(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def wire(url: str) -> Iterator[Wire]:
    """A wire to the app at that URL."""
    made = Wire(int(url.rstrip("/").rpartition(":")[2]))
    try:
        yield made
    finally:
        made.close()
