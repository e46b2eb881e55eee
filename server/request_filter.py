"""ASGI middleware that forwards to Gradio only the requests that this page and gradio_client send.

Gradio also serves uploads, a proxy for files of other sites, deep links that store a page's state, a run history and
an editor of the app's code. None is used here, so all are blocked, as is anything that a later version adds. Gradio
also trusts its input more than a public server can: a page without a session hash stops its queue for everyone, a
page with a long one is stored forever, and a header that any client can send sets the URL that the next visitor's page
uses.
"""

import asyncio
import json
import logging
import re
import secrets
from collections import Counter
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runs.turns import Allowance
from server import client_address, event_readers, gradio_adapter, live_channel, temporary_files

LARGEST_BODY = 64 * 1024  # bytes, of a call of the API
BODY_SECONDS = 10  # for the client to send the body
REQUESTS_PER_ADDRESS = 150  # in progress at once; a class shares an address
# A token bucket for each address. Requests beyond it that have a body or compute wait while other addresses have some.
REQUESTS_A_MINUTE, REQUESTS_AT_ONCE = 40 * 60, 40

READABLE = re.compile(
    r"/|/health|/bokeh\.min\.js|/(checkpoints|static|assets|svelte)/.+|/(files|scripts)/[^/]+/[^/]+|/config/?"
    r"|/favicon\.ico|/robots\.txt|/manifest\.json|/theme\.css"
    r"|/gradio_api/(info/?|openapi\.json|app_id/?|theme\.css|file=.+|queue/data"
    r"|call/(v2/)?[^/]+/(?P<event>[^/]+))"
)
WRITABLE = re.compile(
    r"/gradio_api/(queue/join/?|cancel|reset/?|(run|call|api)/(?P<name>[^/]+)/?|call/v2/(?P<v2>[^/]+)/?)"
)
DIRECT = re.compile(r"/gradio_api/(run|api)/[^/]+/?|/files/.+")  # computed until the client disconnects
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")  # a session hash or an event id
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
RANGE = re.compile(r"bytes=([0-9]{1,15}-[0-9]{0,15}|-[0-9]{1,15})")
LONGEST_SEGMENT = 255  # bytes of a path segment, as in file systems

# Parameters that a request may omit, by endpoint. Gradio refuses a list with too few values, so they are added as null.
OPTIONAL = {"train": ("changes",)}

NO_FUNCTION = "There is no such function."
INTERNAL_ERROR = "Something went wrong on our side."

_log = logging.getLogger(__name__)


class RequestFilter:
    """Refuses a request with a JSON object whose `detail` says why.

    A deleted file is refused in plain text, since people follow links to files. `blocks` are those that the wrapped app
    serves.
    """

    def __init__(self, app: ASGIApp, blocks: gr.Blocks) -> None:
        self._app = app
        self._blocks = blocks
        self._writing: Counter[str] = Counter()  # requests in progress that have a body or compute, by address
        self._active: Counter[str] = Counter()  # all requests in progress, streams too, by address
        self._requests = Allowance(REQUESTS_A_MINUTE, most=REQUESTS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._limit(scope, receive, send)
        elif _check_socket(scope):
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = client_address.of_scope(scope)
        writes = scope["method"] == "POST" or bool(DIRECT.fullmatch(_path(scope)))
        if writes and self._writing[address] >= REQUESTS_PER_ADDRESS:
            await _refusal(429, "Too many requests at once.")(scope, receive, send)
            return
        self._writing[address] += writes
        self._active[address] += 1
        try:
            if writes and len(self._active) > 1:
                self._requests.spend(address, 1)
                await asyncio.sleep(self._requests.wait(address))
            await self._check(scope, receive, send)
        finally:
            for counter, one in ((self._writing, int(writes)), (self._active, 1)):
                counter[address] -= one
                if not counter[address]:
                    del counter[address]

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        writes = scope["method"] == "POST"
        client = receive
        refusal: Response | None = _check_head(scope)
        if refusal is None:
            refusal, receive = await self._check_body(scope, receive) if writes else (_check_file(scope), receive)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif DIRECT.fullmatch(_path(scope)):
            await self._forward_until_disconnect(scope, receive if writes else _replayed(b"", client), send, client)
        elif not writes and (stream := _stream_name(scope)):
            with event_readers.reading(stream):
                await self._forward(scope, receive, send)
        else:
            await self._forward(scope, receive, send)

    async def _forward_until_disconnect(self, scope: Scope, receive: Receive, send: Send, client: Receive) -> None:
        """Forward a request whose response carries the answer: it counts as read until the client disconnects.

        `receive` replays the body, since the disconnection is read from `client`.
        """
        name = scope[event_readers.DIRECT] = secrets.token_hex(16)
        answering = asyncio.create_task(self._forward(scope, receive, send))
        leaving = asyncio.create_task(_disconnect(client))
        try:
            with event_readers.reading(name):
                await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            await answering
        finally:
            answering.cancel()
            leaving.cancel()

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward to Gradio. Logs an exception in one line and completes the response."""
        started = ended = False

        async def tracked(message: Message) -> None:
            nonlocal started, ended
            started = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, tracked)
        except Exception as error:  # noqa: BLE001  # from Gradio; unhandled, it is logged as a whole traceback
            # Gradio starts the response before it rejects an unknown event id, which any client can send.
            level = logging.DEBUG if isinstance(error.__cause__, HTTPException) else logging.ERROR
            _log.log(level, "request failed", exc_info=error)
            if not started:
                await _refusal(500, INTERNAL_ERROR)(scope, receive, send)
            elif not ended:
                with suppress(RuntimeError):  # raised if Content-Length announced more
                    await send({"type": "http.response.body", "body": b""})

    async def _check_body(self, scope: Scope, receive: Receive) -> tuple[Response | None, Receive]:
        """Why the body is refused, and a `receive` that replays it."""
        parts, more, size = [], True, 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return _refusal(400, "The body is incomplete."), receive
                    parts.append(message.get("body", b""))
                    more = message.get("more_body", False)
                    size += len(parts[-1])
                    if size > LARGEST_BODY:
                        return _refusal(413, f"The body must have at most {LARGEST_BODY} bytes."), receive
        except TimeoutError:
            return _refusal(408, "Timeout while waiting for the body."), receive
        path, body = _path(scope), b"".join(parts)
        try:
            content = json.loads(body.decode(), parse_constant=_refuse_constant)
            json.dumps(content, ensure_ascii=False).encode()  # lone surrogates cannot be sent back
        except (ValueError, RecursionError):
            return _refusal(422, "The body must be JSON."), receive
        if not isinstance(content, dict):
            return _refusal(422, "The body must be a JSON object."), receive
        if self._add_optional(path, content):
            body = json.dumps(content).encode()
            scope["headers"] = [
                (key, b"%d" % len(body) if key == b"content-length" else value) for key, value in scope["headers"]
            ]
        why = self._check_content(path, content)
        return (_refusal(422, why) if why else None), _replayed(body, receive)

    def _add_optional(self, path: str, content: dict[str, Any]) -> bool:
        """Add the OPTIONAL parameters that the body omits as null, and return whether there were any."""
        match = WRITABLE.fullmatch(path)
        assert match is not None
        if match["v2"]:
            omitted = [name for name in OPTIONAL.get(match["v2"], ()) if name not in content]
            content |= dict.fromkeys(omitted)
            return bool(omitted)
        data, optional = content.get("data"), OPTIONAL.get(match["name"], ())
        parameters = gradio_adapter.parameters(self._blocks, name=match["name"]) if optional else None
        if parameters is None or not isinstance(data, list):
            return False
        missing = len(parameters) - len(data)
        if not 0 < missing <= len(optional):
            return False
        data += [None] * missing
        return True

    def _check_content(self, path: str, content: dict[str, Any]) -> str:
        """Why Gradio could not process the body; empty if it can."""
        for name in ("session_hash", "event_id"):
            value = content.get(name)
            if value is not None and not (isinstance(value, str) and IDENTIFIER.fullmatch(value)):
                return f"{name} must be 1 to 64 letters and digits."
        for name in ("fn_index", "trigger_id"):
            if content.get(name) is not None and type(content[name]) is not int:
                return f"{name} must be a whole number."
        if content.get("batched"):
            return "batched must be false."
        match = WRITABLE.fullmatch(path)
        assert match is not None
        if match["v2"]:
            return self._check_arguments(match["v2"], content)
        if not match["name"] and not match[1].startswith("queue"):
            return ""
        parameters = gradio_adapter.parameters(self._blocks, content.get("fn_index"), match["name"])
        if parameters is None:
            return NO_FUNCTION
        data = content.get("data")
        if not isinstance(data, list) or len(data) != len(parameters):
            optional = len(OPTIONAL.get(match["name"], ()))
            counts = f"{len(parameters) - optional} to {len(parameters)}" if optional else f"{len(parameters)}"
            return f"data must be a list of {counts} values."
        return ""

    def _check_arguments(self, name: str, content: dict[str, Any]) -> str:
        parameters = gradio_adapter.parameters(self._blocks, name=name)
        if parameters is None:
            return NO_FUNCTION
        if set(content) == set(parameters):
            return ""
        if not parameters:
            return "The body must be an empty object."
        optional = OPTIONAL.get(name, ())
        required = ", ".join(each for each in parameters if each not in optional)
        return f"The body must have the keys {required}{' and may have ' * bool(optional)}{', '.join(optional)}."


def _refusal(status: int, detail: str) -> JSONResponse:
    headers = {"Connection": "close"} if status in (408, 413) else None
    return JSONResponse({"detail": detail}, status, headers)


def _path(scope: Scope) -> str:
    return str(scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")))


def _check_socket(scope: Scope) -> bool:
    """Whether a request for a WebSocket is forwarded."""
    hosts = [value.decode("latin-1") for key, value in scope["headers"] if key in (b"host", b"x-forwarded-host")]
    return _path(scope) == live_channel.PATH and all(HOST.fullmatch(host.split(",")[0].strip()) for host in hosts)


def _check_head(scope: Scope) -> JSONResponse | None:
    """Why the request line or the headers are refused. Removes headers that Gradio must not see from the scope."""
    path = _path(scope)
    known = WRITABLE if scope["method"] == "POST" else READABLE if scope["method"] in ("GET", "HEAD") else None
    match = known and known.fullmatch(path)
    segments = path.removesuffix("/").split("/")[1:]
    if not match or "://" in path or not path.isprintable() or not all(map(_is_plain_segment, segments)):
        return _refusal(404, "Not Found")
    if any(name and not IDENTIFIER.fullmatch(name) for name in match.groupdict().values()):
        return _refusal(404, "Not Found")
    headers = dict(reversed(scope["headers"]))  # the first of several with one name
    scope["headers"] = [(key, value) for key, value in scope["headers"] if _is_forwarded(key, value)]
    hosts = [headers.get(name, b"").decode("latin-1") for name in (b"host", b"x-forwarded-host")]
    if any(host and not HOST.fullmatch(host.split(",")[0].strip()) for host in hosts):
        return _refusal(400, "Invalid Host header.")
    if path.endswith("/queue/data"):
        sessions = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
        if len(sessions) != 1 or not IDENTIFIER.fullmatch(sessions[0]):
            return _refusal(422, "session_hash must be 1 to 64 letters and digits.")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 9 or int(length) > LARGEST_BODY:
        return _refusal(413, f"The body must have at most {LARGEST_BODY} bytes.")
    return None


def _check_file(scope: Scope) -> Response | None:
    """The refusal of a deleted download, as plain text; None for all other requests."""
    head, _, file = _path(scope).partition("/gradio_api/file=")
    if head or not temporary_files.is_gone(file):
        return None
    return PlainTextResponse(f"{temporary_files.GONE.en}\n{temporary_files.GONE.zh}\n", 404)


def _stream_name(scope: Scope) -> str | None:
    """The name of the page or the event whose answers this request reads."""
    path = _path(scope)
    if path.endswith("/queue/data"):
        query: str = scope["query_string"].decode("latin-1")
        return parse_qs(query)["session_hash"][0]
    match = READABLE.fullmatch(path)
    return match["event"] if match else None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body again."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def replayed() -> Message:
        nonlocal message
        replay, message = message, None
        return replay or await receive()

    return replayed


async def _disconnect(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_plain_segment(segment: str) -> bool:
    return segment not in ("", ".", "..") and len(segment.encode()) <= LONGEST_SEGMENT


def _is_forwarded(key: bytes, value: bytes) -> bool:
    """False for the header by which Gradio's own servers set the page's URL, and for malformed ranges."""
    return key != b"x-gradio-server" and (key != b"range" or bool(RANGE.fullmatch(value.decode("latin-1").strip())))


def _refuse_constant(token: str) -> float:
    raise ValueError(token)
