"""What is let through to Gradio: the addresses that this page and gradio_client use, and bodies that make sense to it.

Gradio serves more than that: uploads, a proxy for other sites' files, links that store a page's state, its run history,
an editor of the app's own code. None is used here, and what is new in its next version need not be found out first.
And it takes more than it can stand: a page without a name stops its queue for all, one with a long name is remembered
for ever, and a header of anybody's says where the page is, for whoever asks next.
"""

import asyncio
import inspect
import ipaddress
import json
import logging
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from gradio.route_utils import CustomCORSMiddleware, get_hostname
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runs.turns import Allowance
from tabs import attendance, files, visitor

LARGEST_BODY = 64 * 1024  # bytes; what the page sends has about one thousand
BODY_SECONDS = 10  # that a body may take to come
MOST_OF_ADDRESS = 150  # requests that are answered at once; a class shares an address
# Of these a minute, and at once, while anybody else is here; what is more waits. This process answers all of them.
REQUESTS_A_MINUTE, REQUESTS_AT_ONCE = 40 * 60, 40

READ = re.compile(
    r"/|/health|/bokeh\.min\.js|/checkpoints/.+|/config/?|/(static|assets|svelte)/.+|/favicon\.ico|/robots\.txt|/manifest\.json|/theme\.css"
    r"|/gradio_api/(info/?|openapi\.json|app_id/?|login_check/?|startup-events|theme\.css|file=.+|queue/data"
    r"|heartbeat/(?P<session>[^/]+)|call/[^/]+/(?P<event>[^/]+))"
)
SENT = re.compile(r"/gradio_api/(queue/join/?|cancel|reset/?|(run|call|api)/(?P<name>[^/]+)/?|call/v2/(?P<v2>[^/]+)/?)")
DIRECT = re.compile(r"/gradio_api/(run|api)/[^/]+/?")  # answered by itself, and not by a stream
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a page or an event
HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
RANGE = re.compile(r"bytes=([0-9]{1,15}-[0-9]{0,15}|-[0-9]{1,15})")
LONGEST_PART = 255  # of a path, as in file systems

BROKEN = "Something went wrong on our side."

_log = logging.getLogger(__name__)


class Gate:
    """An ASGI application before another: what is wrong with a request is told in a line of JSON.

    But of a file that has gone in words, since people follow the link to it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._busy: Counter[str] = Counter()  # requests with bodies that are being answered, by address
        self._here: Counter[str] = Counter()  # all requests, streams too
        self._requests = Allowance(REQUESTS_A_MINUTE, most=REQUESTS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._pass(scope, receive, send)
        else:  # a websocket: nothing here speaks that
            await send({"type": "websocket.close"})

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = whose(scope)
        sent = scope["method"] == "POST"
        if sent and self._busy[address] >= MOST_OF_ADDRESS:
            await _no(429, "Too many requests at once.")(scope, receive, send)
            return
        self._busy[address] += sent
        self._here[address] += 1
        try:
            if sent:
                await self._take_turns(address)
            await self._judge(scope, receive, send)
        finally:
            for counter, one in ((self._busy, int(sent)), (self._here, 1)):
                counter[address] -= one
                if not counter[address]:
                    del counter[address]

    async def _take_turns(self, address: str) -> None:
        """Wait, if anybody else is here and the address asks for more than its share."""
        if len(self._here) > 1:
            self._requests.spend(address, 1)
            await asyncio.sleep(self._requests.wait(address))

    async def _judge(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = scope["method"] == "POST"
        client = receive
        refused: Response | None = _refusal(scope)
        if refused is None:
            refused, receive = await _body(scope, receive) if sent else (_gone(scope), receive)
        if refused is not None:
            await refused(scope, receive, send)
        elif sent and DIRECT.fullmatch(_path(scope)):
            await self._answer_itself(scope, receive, send, client)
        elif not sent and (reads_for := _reads_for(scope)):
            with attendance.reading(reads_for):
                await self._answer(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer_itself(self, scope: Scope, receive: Receive, send: Send, client: Receive) -> None:
        """Answer a request that no stream follows; it reads for itself, until its client leaves.

        `receive` gives the body, which the app must get, and `client` what comes after it.
        """
        name = scope[attendance.DIRECT] = secrets.token_hex(16)
        answering = asyncio.create_task(self._answer(scope, receive, send))
        leaving = asyncio.create_task(_left(client))
        try:
            with attendance.reading(name):
                await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            await answering
        finally:
            answering.cancel()
            leaving.cancel()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = ended = False

        async def noted(message: Message) -> None:
            nonlocal started, ended
            started = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001  # of Gradio's, which would end in a traceback in the log
            # An event that is unknown, which anybody can ask for, is refused when its stream has begun already.
            level = logging.DEBUG if isinstance(error.__cause__, HTTPException) else logging.ERROR
            _log.log(level, "request failed", exc_info=error)
            if not started:
                await _no(500, BROKEN)(scope, receive, send)
            elif not ended:
                with suppress(RuntimeError):  # of a server that was promised more
                    await send({"type": "http.response.body", "body": b""})


class OwnSite(CustomCORSMiddleware):
    """Gradio's check that no other site reads a server on the visitor's own machine, for every name of that machine.

    Gradio knows `localhost`, 127.0.0.1 and 0.0.0.0 alone: a server called [::1] could be read by any site.
    """

    def is_valid_origin(self, request_headers: Headers) -> bool:
        host, origin = (get_hostname(request_headers.get(name, "")) for name in ("host", "origin"))
        return not _is_own_machine(host) or _is_own_machine(origin)


def _is_own_machine(host: str) -> bool:
    name = host.rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def whose(scope: Scope) -> str:
    """The address that the request came from."""
    peer = scope["client"][0] if scope.get("client") else visitor.NO_ADDRESS
    return visitor.address_of(peer, Headers(scope=scope).getlist("x-forwarded-for"))


def _no(status: int, why: str) -> JSONResponse:
    return JSONResponse({"detail": why}, status, {"Connection": "close"} if status in (408, 413) else None)


def _path(scope: Scope) -> str:
    return str(scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")))


def _refusal(scope: Scope) -> JSONResponse | None:
    path = _path(scope)
    known = SENT if scope["method"] == "POST" else READ if scope["method"] in ("GET", "HEAD") else None
    match = known and known.fullmatch(path)
    if not match or "://" in path or not path.isprintable() or not all(map(_is_plain, path.split("/")[1:-1])):
        return _no(404, "Not Found")
    if not _is_plain(path.rpartition("/")[2]) and not path.endswith("/"):
        return _no(404, "Not Found")
    if any(name and not NAME.fullmatch(name) for key, name in match.groupdict().items()):
        return _no(404, "Not Found")
    headers = dict(reversed(scope["headers"]))  # of several by one name, the first
    scope["headers"] = [(key, value) for key, value in scope["headers"] if _is_let_through(key, value)]
    hosts = headers.get(b"host", b"").decode("latin-1"), headers.get(b"x-forwarded-host", b"").decode("latin-1")
    if any(host and not HOST.fullmatch(host.split(",")[0].strip()) for host in hosts):
        return _no(400, "The name of the host is none.")
    if path.endswith("/queue/data"):
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
        if len(asked) != 1 or not NAME.fullmatch(asked[0]):
            return _no(422, "session_hash must be 1 to 64 letters and digits.")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 9 or int(length) > LARGEST_BODY:
        return _no(413, f"A body may have {LARGEST_BODY} bytes at most.")
    return None


def _gone(scope: Scope) -> Response | None:
    """Where a file was that a visitor could download: that it is no longer there, for people to read."""
    head, _, asked = _path(scope).partition("/gradio_api/file=")
    if head or not files.is_gone(asked):
        return None
    return PlainTextResponse(f"{files.GONE.en}\n{files.GONE.zh}\n", 404)


def _reads_for(scope: Scope) -> str | None:
    """The name of the page or the event whose answers this request reads."""
    path = _path(scope)
    if path.endswith("/queue/data"):
        query: str = scope["query_string"].decode("latin-1")
        return parse_qs(query)["session_hash"][0]
    match = READ.fullmatch(path)
    return match["event"] if match else None


async def _left(receive: Receive) -> None:
    """Wait until the client has left, once its body has come."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and len(part.encode()) <= LONGEST_PART


def _is_let_through(key: bytes, value: bytes) -> bool:
    """Not where the page is said to be, which only Gradio's own servers send; nor ranges that it trips on."""
    return key != b"x-gradio-server" and (key != b"range" or bool(RANGE.fullmatch(value.decode("latin-1").strip())))


async def _body(scope: Scope, receive: Receive) -> tuple[Response | None, Receive]:
    """What is wrong with the body, and what gives it once more."""
    parts, more, got = [], True, 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return _no(400, "The body ended early."), receive
                parts.append(message.get("body", b""))
                more = message.get("more_body", False)
                got += len(parts[-1])
                if got > LARGEST_BODY:
                    return _no(413, f"A body may have {LARGEST_BODY} bytes at most."), receive
    except TimeoutError:
        return _no(408, "The body did not come."), receive
    whole: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}
    why = _wrong(scope, b"".join(parts))

    async def again() -> Message:
        nonlocal whole
        given, whole = whole, None
        return given or await receive()

    return (_no(422, why) if why else None), again


def _wrong(scope: Scope, body: bytes) -> str:
    """Why Gradio could not make sense of the body, or nothing."""
    try:
        sent = json.loads(body.decode(), parse_constant=_refuse)
        json.dumps(sent, ensure_ascii=False).encode()  # halves of letters cannot be answered
    except (ValueError, RecursionError):
        return "The body must be JSON."
    if not isinstance(sent, dict):
        return "The body must be an object."
    for name in ("session_hash", "event_id"):
        value = sent.get(name)
        if value is not None and not (isinstance(value, str) and NAME.fullmatch(value)):
            return f"{name} must be 1 to 64 letters and digits."
    for name in ("fn_index", "trigger_id"):
        if sent.get(name) is not None and type(sent[name]) is not int:
            return f"{name} must be a whole number."
    if sent.get("batched"):
        return "batched must be false."
    match = SENT.fullmatch(_path(scope))
    assert match is not None
    functions: Mapping[int, Any] = scope["app"].get_blocks().fns
    path = match[1]
    if match["v2"]:
        return _wrong_arguments(functions, match["v2"], sent)
    if not match["name"] and not path.startswith("queue"):
        return ""
    number = sent.get("fn_index")
    if number is None and match["name"]:
        number = next((key for key, each in functions.items() if each.api_name == match["name"]), None)
    function = None if number is None else functions.get(number)
    if function is None:
        return "There is no such function."
    data = sent.get("data")
    if not isinstance(data, list) or len(data) != len(function.inputs):
        return f"data must be a list of {len(function.inputs)} values."
    return ""


def _wrong_arguments(functions: Mapping[int, Any], name: str, sent: dict[str, Any]) -> str:
    known = next((each for each in functions.values() if each.api_name == name), None)
    if known is None or known.api_visibility != "public":
        return "There is no such function."
    names = [*inspect.signature(known.fn).parameters][: len(known.inputs)]
    return "" if set(sent) == set(names) else f"The body must have {', '.join(names) or 'nothing'}."


def _refuse(token: str) -> float:
    raise ValueError(token)
