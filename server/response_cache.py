"""ASGI middleware that caches the responses that are the same for everyone: the page, its configuration, its assets.

For every visitor, Gradio renders the page, in 60 ms of the server's process, and sends 770 kB uncompressed; it
compresses each script on every request. This would delay a class that opens the page, and all runs.
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

from server.content_coding import IDENTITY, best_coding

MOST_BYTES = 64 * 1024 * 1024
MOST_PAGES = 16  # the page contains the Host of the request, which any client can choose
TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")
FIXED = ("/assets/", "/static/", "/svelte/")
KEY_HEADERS = ("host", "x-forwarded-host", "x-forwarded-proto")  # that a cached response may depend on
NOT_MODIFIED_HEADERS = ("cache-control", "content-location", "date", "etag", "expires", "vary")  # RFC 9110, 15.4.5
GRADIO_CODINGS = ("br", "gzip")  # in its order of preference


@dataclass(frozen=True)
class _Response:
    headers: list[tuple[bytes, bytes]]
    body: bytes


class ResponseCache:
    """Requests each cached response once from the app behind it. `cached` says which further paths to cache."""

    def __init__(self, app: ASGIApp, cached: Callable[[str], bool] = lambda path: False) -> None:
        self._app = app
        self._is_cached = cached
        self._responses: OrderedDict[tuple[str, ...], _Response] = OrderedDict()
        self._bytes = 0
        # Entries live while held.
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        accepted = ",".join(headers.getlist("accept-encoding")) if "accept-encoding" in headers else None
        base = self._key(scope, headers)
        if base is None or "range" in headers:  # Gradio serves ranges itself
            await self._app(_with_coding(scope, accepted, headers), receive, send if base is None else _varying(send))
            return
        coding = best_coding(accepted, ["gzip"])
        if coding is None:
            await _NOT_ACCEPTABLE(scope, receive, send)
            return
        # A client that refuses an uncoded response gets a coded one even if that saves nothing.
        forced = best_coding(accepted, []) is None
        key = (base[0], f"{coding}{'!' if forced else ''}", *base[1:])
        answer = self._responses.get(key)
        if answer is None:
            async with self._locks.setdefault(key, asyncio.Lock()):  # one client requests it, the others wait
                answer = self._responses.get(key) or await self._request(key, scope, send)
        if key in self._responses:
            self._responses.move_to_end(key)
        if answer is not None and _is_current(headers, Headers(raw=answer.headers)):
            kept = [(name, value) for name, value in answer.headers if name.decode("latin-1") in NOT_MODIFIED_HEADERS]
            await send({"type": "http.response.start", "status": 304, "headers": kept})
            await send({"type": "http.response.body", "body": b""})
        elif answer is not None:  # else it was sent already and cannot be cached
            await send({"type": "http.response.start", "status": 200, "headers": answer.headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    def _key(self, scope: Scope, headers: Headers) -> tuple[str, ...] | None:
        """What the response depends on, apart from its coding; None if it must not be cached."""
        if scope["method"] not in ("GET", "HEAD"):
            return None
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if path in ("/", "/config", "/config/"):
            values = (headers.get(name, "") for name in KEY_HEADERS)
            return path, scope.get("scheme", ""), *values
        return (path,) if path.startswith(FIXED) or self._is_cached(path) else None

    async def _request(self, key: tuple[str, ...], scope: Scope, send: Send) -> _Response | None:
        """Request the response from the app and cache it; None if it was not a success and was forwarded unchanged."""
        started: Message = {}
        parts: list[bytes] = []
        refused = complete = False

        async def stay_connected() -> Message:
            """Never disconnect: a response that was cut short would be cached for everyone."""
            await asyncio.Event().wait()
            raise AssertionError("the event is never set")

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

        kept = [(name, value) for name, value in scope["headers"] if name.decode("latin-1") in KEY_HEADERS]
        await self._app({**scope, "method": "GET", "headers": kept, "query_string": b""}, stay_connected, collect)
        if refused or not complete:
            return None
        headers, body = MutableHeaders(raw=list(started["headers"])), b"".join(parts)
        headers.add_vary_header("Accept-Encoding")
        forced, text = key[1].endswith("!"), headers.get("content-type", "").startswith(TEXT)
        if key[1] and (text or forced):
            body = await asyncio.to_thread(gzip.compress, body, 6, mtime=0)
            headers["Content-Encoding"] = "gzip"
            del headers["Accept-Ranges"]  # ranges refer to the uncoded file
            if headers.get("etag", "W/").startswith('"'):  # a strong one identifies the bytes of the uncoded file
                headers["ETag"] = f"W/{headers['etag']}"
        headers["Content-Length"] = str(len(body))
        answer = _Response(headers.raw, body)
        self._store(key, answer)
        return answer

    def _store(self, key: tuple[str, ...], answer: _Response) -> None:
        if len(key) > 2:  # a page: the MOST_PAGES that were used last are cached
            pages = [each for each in self._responses if len(each) > 2]
            for oldest in pages[: max(0, len(pages) - MOST_PAGES + 1)]:
                self._bytes -= len(self._responses.pop(oldest).body)
        if self._bytes + len(answer.body) <= MOST_BYTES:
            self._responses[key] = answer
            self._bytes += len(answer.body)


def _is_current(request: Headers, answer: Headers) -> bool:
    """Whether the client's copy is current, by its entity tags or else by its date (RFC 9110, 13.2.2)."""
    if "if-none-match" in request:
        tags = ",".join(request.getlist("if-none-match"))
        # Weak comparison: the tags of two codings of a file are equal.
        return tags.strip() == "*" or answer.get("etag", "").removeprefix("W/") in re.findall(r'"[^"]*"', tags)
    since, changed = (parsedate(each or "") for each in (request.get("if-modified-since"), answer.get("last-modified")))
    return since is not None and changed is not None and changed <= since


def _with_coding(scope: Scope, accepted: str | None, headers: Headers) -> Scope:
    """The request with only its preferred coding: Gradio ignores weights, and compresses ranges of files."""
    coding = IDENTITY if "range" in headers else best_coding(accepted, GRADIO_CODINGS)
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
    {"detail": "Available codings are identity and gzip; Accept-Encoding refuses both."},
    406,
    {"Vary": "Accept-Encoding"},
)
