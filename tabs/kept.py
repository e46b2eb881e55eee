"""Answers that are the same for everybody, made just once: the page, its configuration, its scripts and styles.

Gradio makes the page anew for every visitor, in 60 ms of this process, 770 kB and uncompressed, and compresses its
scripts every time that they are asked for. A class that opens a link would wait for that, and so would all runs.
"""

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 1024 * 1024
MOST_HOSTS = 16  # the page names the host that it was asked for
TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")
FIXED = ("/assets/", "/static/", "/svelte/")
TOLD = ("host", "x-forwarded-host", "x-forwarded-proto")  # all that an answer that is kept may depend on
IN_PART = ("range", "if-none-match", "if-modified-since")  # Gradio answers these itself, and shortly


@dataclass(frozen=True)
class _Answer:
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Kept:
    """An ASGI application before another, which it asks for the same but once. `fixed` tells more paths like that."""

    def __init__(self, app: ASGIApp, fixed: Callable[[str], bool] = lambda path: False) -> None:
        self._app = app
        self._fixed = fixed
        self._kept: OrderedDict[tuple[str, ...], _Answer] = OrderedDict()
        self._bytes = 0
        # Each lives while it is held.
        self._making: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = self._key(scope)
        if key is None:
            await self._app(scope, receive, send)
            return
        answer = self._kept.get(key)
        if answer is None:
            async with self._making.setdefault(key, asyncio.Lock()):  # of a crowd, one asks and the others wait
                answer = self._kept.get(key) or await self._made(key, scope, send)
        if answer is not None:  # else it has been sent already, and is not to be kept
            await send({"type": "http.response.start", "status": 200, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body})

    def _key(self, scope: Scope) -> tuple[str, ...] | None:
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        headers = Headers(scope=scope)
        if any(name in headers for name in IN_PART):
            return None
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        zipped = "gzip" if "gzip" in headers.get("accept-encoding", "") else ""
        if path in ("/", "/config", "/config/"):
            told = (headers.get(name, "") for name in TOLD)
            return path, zipped, scope.get("scheme", ""), *told
        return (path, zipped) if path.startswith(FIXED) or self._fixed(path) else None

    async def _made(self, key: tuple[str, ...], scope: Scope, send: Send) -> _Answer | None:
        """The answer, kept; None for one that is no success, and has gone out as it came."""
        started: Message = {}
        parts: list[bytes] = []
        refused = complete = False

        async def stay() -> Message:
            """A client that never leaves: an answer that was cut short when one did would be kept for all."""
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

        async def collect(message: Message) -> None:
            nonlocal started, refused, complete
            if message["type"] == "http.response.start":
                started = message
                refused = message["status"] != 200 or "set-cookie" in Headers(raw=message["headers"])
            if refused:
                await send(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                complete = not message.get("more_body", False)

        told = [(name, value) for name, value in scope["headers"] if name.decode("latin-1") in TOLD]
        await self._app({**scope, "headers": told, "query_string": b""}, stay, collect)
        if refused or not complete:
            return None
        headers, body = MutableHeaders(raw=list(started["headers"])), b"".join(parts)
        if key[1] and "content-encoding" not in headers and headers.get("content-type", "").startswith(TEXT):
            body = await asyncio.to_thread(gzip.compress, body, 6, mtime=0)
            headers["Content-Encoding"] = "gzip"
            headers.add_vary_header("Accept-Encoding")
        headers["Content-Length"] = str(len(body))
        answer = _Answer(headers.raw, body)
        self._keep(key, answer)
        return answer

    def _keep(self, key: tuple[str, ...], answer: _Answer) -> None:
        if len(key) > 2:  # of pages, those of the hosts that were asked for last
            pages = [each for each in self._kept if len(each) > 2]
            for oldest in pages[: max(0, len(pages) - MOST_HOSTS + 1)]:
                self._bytes -= len(self._kept.pop(oldest).body)
        if self._bytes + len(answer.body) <= MOST_BYTES:
            self._kept[key] = answer
            self._bytes += len(answer.body)
