"""The live channel: who may connect, what a page may send, what a slow one gets, and random commands."""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from lab.settings import Config
from nets import LESSONS, TRAININGS
from runs import admission, registry
from runs.turns import Allowance
from server import live_channel
from server.live_channel import GOING_AWAY, MALFORMED, OUTDATED, REPLACED, SLOW, TRY_LATER, Channel, LiveChannel
from tabs.open_page import HANDLERS, OpenPage
from tests.client import Served
from tests.test_runs import go

VERSION = "of the tests"
NAME = "0123456789abcdef" * 2


class FakePage:
    """A page that notes what happens to it. Its commands last until `free` is set."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.attached: Channel | None = None
        self.received: list[Mapping[str, Any]] = []
        self.closed = False
        self.free = asyncio.Event()

    def attach(self, channel: Channel) -> None:
        self.attached = channel

    def detach(self) -> None:
        self.attached = None

    @property
    def channel(self) -> Channel:
        assert self.attached is not None
        return self.attached

    def receive(self, message: Mapping[str, Any]) -> "asyncio.Task[None] | None":
        self.received.append(message)

        async def execute() -> None:
            await self.free.wait()

        return asyncio.create_task(execute()) if "n" in message else None

    def close(self) -> None:
        self.closed = True


class Socket:
    """The browser's end of a WebSocket to `live`. It reads unless `reading` is cleared."""

    def __init__(self, live: LiveChannel, host: str = "a", headers: Mapping[str, str] | None = None) -> None:
        self.got: list[Any] = []
        self.code: int | None = None  # why the server closed it
        self.reading = asyncio.Event()
        self.reading.set()
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": "websocket", "path": "/live", "headers": raw, "client": (host, 1), "subprotocols": []}
        self.serving = asyncio.create_task(live.serve(WebSocket(scope, self._incoming.get, self._send)))

    async def _send(self, message: Any) -> None:
        await self.reading.wait()
        if message["type"] == "websocket.close":
            self.code = message.get("code")
            self._incoming.put_nowait({"type": "websocket.disconnect", "code": self.code})
        elif message["type"] == "websocket.send":
            self.got.append(json.loads(message["text"], parse_constant=pytest.fail))

    def send(self, message: object) -> None:
        """Send text, bytes, or anything else as JSON."""
        kind = "bytes" if isinstance(message, bytes) else "text"
        content = message if isinstance(message, bytes | str) else json.dumps(message)
        self._incoming.put_nowait({"type": "websocket.receive", kind: content})

    def hello(self, name: str = NAME, version: str = VERSION) -> "Socket":
        self.send({"hello": {"page": name, "version": version}})
        return self

    async def leave(self, code: int = 1006) -> None:
        """Disconnect with that close code; 1006 is for a lost connection."""
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": code})
        await self.serving


async def turn_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def story(tell: Callable[[LiveChannel, list[FakePage]], Awaitable[None]]) -> None:
    """Run it with a new live channel, and the pages that it opens."""

    async def told() -> None:
        before = asyncio.all_tasks()
        pages: list[FakePage] = []

        def open_page(name: str, address: str) -> FakePage:
            pages.append(FakePage(name, address))
            return pages[-1]

        live = LiveChannel(open_page, VERSION)
        await tell(live, pages)
        others = asyncio.all_tasks() - before
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert not live._sockets

    go(asyncio.wait_for(told(), 20))


# Who may connect

OWN = [
    ("https://nets.example", {"host": "nets.example"}, True),
    ("HTTPS://Nets.Example", {"host": "nets.example:443"}, True),
    ("http://nets.example:80", {"host": "nets.example"}, True),
    ("http://localhost:7860", {"host": "localhost:7860"}, True),
    ("http://[::1]:7860", {"host": "[::1]:7860"}, True),
    ("https://nets.example", {"host": "10.0.0.1:7860", "x-forwarded-host": "nets.example"}, True),
    ("https://nets.example", {"host": "10.0.0.1", "x-forwarded-host": "nets.example, inner"}, True),
    ("https://you-nets.hf.space", {"host": "10.0.0.1"}, True),
    ("", {"host": "nets.example"}, True),  # no browser
    ("https://evil.example", {"host": "nets.example"}, False),
    ("https://nets.example.evil.example", {"host": "nets.example"}, False),
    ("http://localhost:3000", {"host": "localhost:7860"}, False),
    ("null", {"host": "nets.example"}, False),
    ("null", {}, False),
    ("https://[", {"host": "nets.example"}, False),
]


@pytest.mark.parametrize(("origin", "headers", "allowed"), OWN)
def test_only_the_servers_own_page_may_connect_and_clients_that_are_no_browsers(
    origin: str, headers: dict[str, str], allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_HOST", "you-nets.hf.space")

    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        socket = Socket(live, headers={**headers, **({"origin": origin} if origin else {})}).hello()
        await turn_loop()
        assert socket.got == ([{"welcome": True}] if allowed else [])
        assert (socket.code is None) == allowed

    story(tell)


HELLOS: list[Any] = [
    *({}, {"hello": None}, {"hello": [NAME]}, {"hello": {"page": None, "version": VERSION}}, "hello", b"hello", [1]),
    *({"hello": {"page": "x" * 32, "version": VERSION}}, {"hello": {"page": NAME * 2, "version": VERSION}}, {"n": 1}),
]


@pytest.mark.parametrize("hello", HELLOS, ids=repr)
def test_a_page_must_say_hello_first(hello: object) -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        socket = Socket(live)
        socket.send(hello)
        await socket.serving
        assert (socket.got, socket.code, pages) == ([], MALFORMED, [])

    story(tell)


def test_a_page_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_channel, "HELLO_SECONDS", 0)

    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        socket = Socket(live)
        await socket.serving
        assert (socket.got, socket.code, pages) == ([], MALFORMED, [])

    story(tell)


@pytest.mark.parametrize("version", ["", "older", None, 7])
def test_a_page_of_another_version_is_told_to_reload(version: Any) -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        socket = Socket(live).hello(version=version)
        await socket.serving
        assert (socket.got, socket.code, pages) == ([], OUTDATED, [])

    assert OUTDATED == 4000
    story(tell)


def test_an_address_has_so_many_sockets_and_others_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert live_channel.SOCKETS_PER_ADDRESS == 100
    monkeypatch.setattr(live_channel, "SOCKETS_PER_ADDRESS", 2)

    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        sockets = [Socket(live, host).hello(f"{number:032x}") for number, host in enumerate("aaab")]
        await turn_loop()
        assert [socket.code for socket in sockets] == [None, None, TRY_LATER, None]
        assert len(live._channels) == 3
        await sockets[0].leave()
        again = Socket(live).hello(NAME)
        await turn_loop()
        assert again.got == [{"welcome": True}]

    story(tell)


# Pages and their connections


def test_a_page_that_connects_again_finds_itself_and_the_old_connection_is_closed() -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        old, other = Socket(live).hello(), Socket(live, "b").hello()  # a name is one of an address
        await turn_loop()
        first = pages[0].channel
        new = Socket(live).hello()
        await turn_loop()
        assert (old.code, other.code, new.code) == (REPLACED, None, None)
        assert [page.address for page in pages] == ["a", "b"]
        assert pages[0].channel is not first
        new.send({"do": "it"})
        await turn_loop()
        assert pages[0].received == [{"do": "it"}]
        await new.leave()
        assert pages[0].attached is None
        assert not pages[0].closed

    assert REPLACED == 4001
    story(tell)


def test_a_page_that_stays_away_is_closed_and_one_that_comes_back_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        stays, comes = [Socket(live).hello(f"{number:032x}") for number in range(2)]
        await turn_loop()
        monkeypatch.setattr(live_channel, "GRACE_SECONDS", 0.01)
        await stays.leave()
        monkeypatch.setattr(live_channel, "GRACE_SECONDS", 60)
        await comes.leave()
        Socket(live).hello(f"{1:032x}")
        while not pages[0].closed:
            await asyncio.sleep(0.01)
        assert [page.closed for page in pages] == [True, False]
        assert list(live._pages) == [("a", pages[1].name)]
        assert not live._leaving

    story(tell)


def test_a_page_that_its_visitor_has_left_is_closed_at_once() -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        socket = Socket(live).hello()
        await turn_loop()
        await socket.leave(1001)
        await turn_loop()
        assert pages[0].closed
        assert not live._pages

    story(tell)


def test_of_too_many_pages_that_are_away_one_of_the_address_with_the_most_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_channel, "MOST_WAITING_PAGES", 3)

    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        for number, host in enumerate("abbbb"):
            socket = Socket(live, host).hello(f"{number:032x}")
            await turn_loop()
            await socket.leave()
        assert [page.closed for page in pages] == [False, True, True, False, False]

    story(tell)


def test_a_server_that_shuts_down_sends_its_pages_away_after_their_messages() -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        sockets = [Socket(live).hello(f"{number:032x}") for number in range(3)]
        await turn_loop()
        for page in pages:
            page.channel.send('{"last": true}')
        live.close_all()
        await asyncio.gather(*(socket.serving for socket in sockets))
        assert [(socket.code, socket.got[-1]) for socket in sockets] == [(GOING_AWAY, {"last": True})] * 3

    story(tell)


# What a page sends

MALFORMED_MESSAGES = [
    *("", "{", "[1]", "7", '"x"', "null", '{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', '{"a": "\\ud800"}'),
    *("[" * 20_000, '{"a":' * 9_000, '{"a": ' + "9" * 5000 + "}", b"\xff", b"{}"),
]


@pytest.mark.parametrize("message", MALFORMED_MESSAGES, ids=lambda message: repr(message[:20]))
def test_what_is_no_json_object_closes_the_connection_and_no_other(message: str | bytes) -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        bad, good = Socket(live).hello(), Socket(live, "b").hello()
        await turn_loop()
        bad.send(message)
        bad.send({"do": "not"})
        await bad.serving
        good.send({"do": "it"})
        await turn_loop()
        assert (bad.code, good.code) == (MALFORMED, None)
        assert [page.received for page in pages] == [[], [{"do": "it"}]]

    assert MALFORMED == 4003
    story(tell)


def test_commands_of_an_address_beyond_its_share_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (live_channel.COMMANDS_A_SECOND, live_channel.COMMANDS_AT_ONCE) == (50, 100)
    waits: list[float] = []
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        if seconds:
            waits.append(seconds)
        await sleep(0)

    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        live._commands = Allowance(50 * 60, lambda: 0.0, most=5)
        one, two, other = (Socket(live, host).hello(f"{n:032x}") for n, host in enumerate("aab"))
        monkeypatch.setattr(asyncio, "sleep", slept)
        await turn_loop()
        for number in range(4):
            (one if number % 2 else two).send({"hidden": True})
            other.send({"ping": True})
        await turn_loop()
        assert sum(len(page.received) for page in pages) == 4
        assert waits == [pytest.approx(0.02)]  # the first five, with two hellos, are its share
        assert other.got.count({"pong": True}) == 4

    story(tell)


def test_commands_of_an_address_that_wait_to_be_executed_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_channel, "UNFINISHED_PER_ADDRESS", 2)

    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        one, other = Socket(live).hello(), Socket(live, "b").hello()
        await turn_loop()
        for number in range(1, 5):
            one.send({"n": number})
        other.send({"n": 1})
        await turn_loop()
        assert [len(page.received) for page in pages] == [2, 1]
        pages[0].free.set()
        await turn_loop()
        assert len(pages[0].received) == 4

    story(tell)


def test_the_served_page_refuses_a_message_that_is_too_large_and_goes_on(served: Served) -> None:
    url, _, log = served
    version = re.findall(r'data-version=\\*"(\w+)', httpx.get(url).text)[0]
    hello = json.dumps({"hello": {"page": NAME, "version": version}})
    for message, code in ((json.dumps({"x": "y" * 65_536}), 1009), (b"\xff", MALFORMED)):
        with connect(f"{url.replace('http', 'ws')}/live") as socket:
            socket.send(hello)
            assert json.loads(socket.recv()) == {"welcome": True}
            socket.send(json.dumps({"x": "y" * 65_000}))
            assert "problem" in json.loads(socket.recv())  # it has no number
            socket.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code
    assert "ERROR" not in log.read_text(encoding="utf-8")


# What a page is sent


def test_a_slow_reader_gets_the_newest_frames_and_every_other_message() -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        socket = Socket(live).hello()
        await turn_loop()
        socket.reading.clear()
        channel = pages[0].channel
        for number in range(5):
            channel.send(json.dumps({"message": number}))
            for kind in ("regression", "dropout"):
                channel.send_frame(kind, json.dumps({kind: number}))
        socket.reading.set()
        await turn_loop()
        assert [each["message"] for each in socket.got if "message" in each] == [0, 1, 2, 3, 4]
        assert socket.got[-2:] == [{"regression": 4}, {"dropout": 4}]
        assert len(socket.got) == 1 + 5 + 2
        assert channel._size == 0

    story(tell)


def test_a_reader_that_loses_more_than_frames_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_channel, "MOST_UNSENT", 100)

    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        socket = Socket(live).hello()
        await turn_loop()
        socket.reading.clear()
        channel = pages[0].channel
        for _ in range(50):
            channel.send_frame("regression", json.dumps("x" * 60))
        await turn_loop()
        closing = [channel._closing]
        for _ in range(3):
            channel.send(json.dumps("x" * 60))
        assert [*closing, channel._closing] == [None, SLOW]
        assert not channel._unsent
        socket.reading.set()
        await socket.serving
        assert socket.code == SLOW

    story(tell)


def test_a_socket_that_fails_while_it_is_written_to_detaches_its_page(caplog: pytest.LogCaptureFixture) -> None:
    async def tell(live: LiveChannel, pages: list[FakePage]) -> None:
        socket = Socket(live).hello()
        await turn_loop()

        async def lost(message: object) -> None:
            raise OSError("connection reset")

        channel = pages[0].channel
        channel._websocket._send = lost
        channel.send("{}")
        await socket.serving
        assert pages[0].attached is None
        assert not live._channels

    story(tell)
    assert caplog.text == ""


# Random commands to a real page

NASTY: list[Any] = [
    *(None, True, False, -1, 0, 1, 3, 2**53, -(10**30), 1e308, -0.0, 0.5, "", "0.5", "x" * 300, [], {}, [[]]),
    *("NaN", "1e999", "../" * 5, "<script>", "%s{0}", "regression", "__class__", "net.hidden.weight.0.0"),
    *([1, "x"], {"a": {"b": [None]}}, {"__type__": "update"}),
]
LEAVES = st.sampled_from(NASTY) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
KEYS = st.sampled_from([*LESSONS, "checkpoints", "regression", "regression"])
STEPS = st.sampled_from([0, 0, 1, 5, 20, 21, 10**6])


def nearly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is good, and sometimes anything."""
    return st.one_of(good, good, good, JSON)


def settings_of(config: type[Config]) -> st.SearchStrategy[dict[str, Any]]:
    """Settings of a short run, of which some are replaced by anything."""
    short = {
        name: value for name, value in {"steps": 20, "epochs": 1, "points": 20}.items() if name in config.controls()
    }
    names = st.sampled_from([*config.controls(), "nope"])
    return st.dictionaries(names, JSON, max_size=1).map(lambda wrong: {**config().to_dict(), **short, **wrong})


def recipes(key: str) -> st.SearchStrategy[Any]:
    change = st.fixed_dictionaries(
        {
            "step": nearly(STEPS),
            "name": nearly(st.sampled_from(["learning_rate", "net.hidden.weight.0.0", "net.no.weight", "seed"])),
            "value": nearly(st.sampled_from([0.1, 1e9, "0.2"])),
        }
    )
    return st.fixed_dictionaries(
        {"lesson": nearly(st.just(key)), "settings": nearly(settings_of(LESSONS[key].config))},
        optional={
            "version": nearly(st.sampled_from([1, 2])),
            "changes": nearly(st.lists(change, max_size=3) | st.integers(0, 10_000).map(lambda n: [{}] * n)),
            "stop": nearly(st.none() | STEPS),
            "more": JSON,
        },
    )


def commands(key: str) -> st.SearchStrategy[dict[str, Any]]:
    config = LESSONS.get(key, TRAININGS["regression"]).config
    return st.fixed_dictionaries(
        {
            "lesson": nearly(st.just(key)),
            "do": nearly(st.sampled_from([*HANDLERS])),
            "settings": nearly(settings_of(config)),
            "run": nearly(st.integers(0, 3)),
        },
        optional={
            "fresh": nearly(st.booleans()),
            "recipe": nearly(recipes(key if key in TRAININGS else "regression")),
            "step": nearly(STEPS),
            "speed": nearly(st.sampled_from([0, 1, 5, 20])),
            "language": nearly(st.sampled_from(["en", "zh"])),
            "idea": nearly(st.integers(0, 3)),
            "checkpoint": nearly(st.sampled_from(["regression", "dropout/net_dropped"])),
            "text": nearly(st.booleans()),
            "hidden": st.just(0),
        },
    )


COMMANDS = KEYS.flatmap(commands)


async def answered(socket: Socket, number: int) -> None:
    while not any(each.get("done") == number for each in socket.got):
        assert socket.code is None
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("examples", [25, pytest.param(400, marks=pytest.mark.long)])
def test_every_command_is_acknowledged_whatever_it_says_and_the_page_trains_afterwards(
    examples: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    async def check(sent: list[dict[str, Any]]) -> None:
        page = OpenPage(NAME, "a")
        live = LiveChannel(lambda name, address: page, VERSION)
        socket = Socket(live).hello()
        numbered = [{**command, "n": number} for number, command in enumerate(sent, 1) if "hidden" not in command]
        for command in (*sent, *numbered, *numbered):  # without a number, with one, and once more
            socket.send(command)
        for command in numbered:
            await answered(socket, command["n"])
        last = {"lesson": "regression", "do": "train", "run": 2**40, "fresh": True, "speed": 0, "n": 2**40}
        socket.send({**last, "settings": {**LESSONS["regression"].config().to_dict(), "steps": 3}})
        while not any(done(each) for each in socket.got):
            assert socket.code is None
            await asyncio.sleep(0.005)
        while page._tasks:  # files that are written
            await asyncio.sleep(0.005)
        await socket.leave()
        live._close(page)
        assert (registry.count(), admission.training_count(), admission.waiting_count()) == (0, 0, 0)

    def done(message: Mapping[str, Any]) -> bool:
        return message.get("run") == 2**40 and message.get("frame", {}).get("state") == "done"

    quiet = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    quiet(
        seed(0)(given(st.lists(COMMANDS, min_size=1, max_size=6))(lambda sent: go(asyncio.wait_for(check(sent), 60))))
    )()
    assert "failed" not in caplog.text
