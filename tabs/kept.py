"""Answers that are the same for everybody, made just once: the page, its configuration, its scripts and styles.

Gradio makes the page anew for every visitor, in 60 ms of this process, 770 kB and uncompressed, and compresses its
scripts every time that they are asked for. A class that opens a link would wait for that, and so would all runs.
"""

import asyncio
import gzip
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate
from weakref import WeakValueDictionary

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tabs.negotiation import IDENTITY, best_coding

MOST_BYTES = 64 * 1024 * 1024
MOST_HOSTS = 16  # the page names the host that it was asked for
TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")
FIXED = ("/assets/", "/static/", "/svelte/")
TOLD = ("host", "x-forwarded-host", "x-forwarded-proto")  # all that an answer that is kept may depend on
OF_304 = ("cache-control", "content-location", "date", "etag", "expires", "vary")  # RFC 9110, 15.4.5
CODINGS = ("br", "gzip")  # of Gradio's own, in its order


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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        accepted = ",".join(headers.getlist("accept-encoding")) if "accept-encoding" in headers else None
        place = self._place(scope, headers)
        if place is None or "range" in headers:  # a part, which Gradio answers itself
            await self._app(_asking(scope, accepted, headers), receive, send if place is None else _varying(send))
            return
        coding = best_coding(accepted, ["gzip"])
        if coding is None:
            await _NOT_ACCEPTABLE(scope, receive, send)
            return
        # A client that refuses a file as it is gets it in a coding even where this saves nothing.
        forced = best_coding(accepted, []) is None
        key = (place[0], f"{coding}{'!' if forced else ''}", *place[1:])
        answer = self._kept.get(key)
        if answer is None:
            async with self._making.setdefault(key, asyncio.Lock()):  # of a crowd, one asks and the others wait
                answer = self._kept.get(key) or await self._made(key, scope, send)
        if answer is not None and _is_known(headers, Headers(raw=answer.headers)):
            told = [(name, value) for name, value in answer.headers if name.decode("latin-1") in OF_304]
            await send({"type": "http.response.start", "status": 304, "headers": told})
            await send({"type": "http.response.body", "body": b""})
        elif answer is not None:  # else it has been sent already, and is not to be kept
            await send({"type": "http.response.start", "status": 200, "headers": answer.headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    def _place(self, scope: Scope, headers: Headers) -> tuple[str, ...] | None:
        """What the answer depends on, its coding apart; None for one that is not to be kept."""
        if scope["method"] not in ("GET", "HEAD"):
            return None
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if path in ("/", "/config", "/config/"):
            told = (headers.get(name, "") for name in TOLD)
            return path, scope.get("scheme", ""), *told
        return (path,) if path.startswith(FIXED) or self._fixed(path) else None

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
        await self._app({**scope, "method": "GET", "headers": told, "query_string": b""}, stay, collect)
        if refused or not complete:
            return None
        headers, body = MutableHeaders(raw=list(started["headers"])), b"".join(parts)
        headers.add_vary_header("Accept-Encoding")
        forced, text = key[1].endswith("!"), headers.get("content-type", "").startswith(TEXT)
        if key[1] and (text or forced):
            body = await asyncio.to_thread(gzip.compress, body, 6, mtime=0)
            headers["Content-Encoding"] = "gzip"
            del headers["Accept-Ranges"]  # a range would be one of the file
            if headers.get("etag", "W/").startswith('"'):  # a strong one would say that the bytes are the file's
                headers["ETag"] = f"W/{headers['etag']}"
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


def _is_known(asked: Headers, answer: Headers) -> bool:
    """Whether the client has the answer already, by the tags that it names or else by the date (RFC 9110, 13.2.2)."""
    if "if-none-match" in asked:
        tags = ",".join(asked.getlist("if-none-match"))
        # Compared weakly: a tag that marks a coding is that of the same file.
        return tags.strip() == "*" or answer.get("etag", "").removeprefix("W/") in re.findall(r'"[^"]*"', tags)
    since, changed = (parsedate(each or "") for each in (asked.get("if-modified-since"), answer.get("last-modified")))
    return since is not None and changed is not None and changed <= since


def _asking(scope: Scope, accepted: str | None, headers: Headers) -> Scope:
    """The request with the one coding that it prefers: Gradio looks for the word alone, and zips parts of files."""
    coding = IDENTITY if "range" in headers else best_coding(accepted, CODINGS)
    others = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
    return {**scope, "headers": [*others, (b"accept-encoding", coding.encode())] if coding else others}


def _varying(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            headers.add_vary_header("Accept-Encoding")
            message = {**message, "headers": headers.raw}
        await send(message)

    return sent


_NOT_ACCEPTABLE = JSONResponse(
    {"detail": "This is offered as it is, or as gzip; Accept-Encoding refuses both."}, 406, {"Vary": "Accept-Encoding"}
)
