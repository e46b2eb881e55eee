"""A call of the API starts when a client reads its answer, and is cancelled when none does."""

import asyncio
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.context import LocalContext
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from server import event_limits, event_readers
from server.request_filter import RequestFilter
from tests.client import Served
from tests.test_runs import go

LONG = {"data": ["batchnorm", {"steps": 2000, "batch_size": 500}]}  # tens of seconds


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for."""
    monkeypatch.setattr(event_readers, "FIRST_READER_SECONDS", 0)
    monkeypatch.setattr(event_readers, "NEXT_READER_SECONDS", 0)


class Work:
    """A handler that lasts until it is told, and what became of it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.free = asyncio.Event()

    async def __call__(self) -> str:
        self.seen.append("begun")
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        return "done"


def event(work: Work, name: str = "session", host: str = "a") -> "asyncio.Task[Any]":
    """The event of a client, as Gradio's queue has it answered."""
    scope = {"type": "http", "headers": [], "client": (host, 1)}
    request = gr.Request(request=Request(scope), session_hash=name)

    async def answered() -> Any:
        LocalContext.request.set(request)
        LocalContext.event_id.set(f"event of {name}")
        return await event_limits.limited(work.__call__)()

    return asyncio.create_task(answered())


async def turn_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("prompt")
def test_what_nobody_reads_is_not_begun() -> None:
    async def story() -> list[str]:
        work = Work()
        with pytest.raises(gr.Error, match="The client has disconnected"):
            await event(work)
        return work.seen

    assert go(story()) == []


@pytest.mark.usefixtures("prompt")
@pytest.mark.parametrize("name", ["session", "event of session"])
def test_what_somebody_reads_is_begun_and_cancelled_when_the_stream_is_closed(name: str) -> None:
    async def story() -> None:
        work = Work()
        with event_readers.reading(name):
            answering = event(work)
            await turn_loop()
            assert work.seen == ["begun"]
        with pytest.raises(gr.Error, match="The client has disconnected"):
            await answering
        assert work.seen == ["begun", "cancelled"]
        assert not event_readers._events
        assert not event_readers._readers

    go(story())


def test_a_client_that_closes_one_stream_and_opens_the_next_is_waited_for() -> None:
    async def story() -> Any:
        work = Work()
        with event_readers.reading("session"):
            answering = event(work)
            await turn_loop()
        with event_readers.reading("session"):
            work.free.set()
            return await answering

    assert go(story()) == "done"


@pytest.mark.usefixtures("prompt")
def test_a_stream_of_another_client_is_no_reader() -> None:
    async def story() -> None:
        with event_readers.reading("another"), pytest.raises(gr.Error, match="The client has disconnected"):
            await event(Work())

    go(story())


def test_a_timeout_of_the_work_itself_is_not_taken_for_a_client_that_left() -> None:
    async def story() -> None:
        async with event_readers.answering(frozenset()):
            raise TimeoutError("of the work")

    with pytest.raises(TimeoutError, match="of the work"):
        go(story())


def test_a_server_that_shuts_down_cancels_all_events() -> None:
    async def story() -> None:
        read, unread = Work(), Work()
        with event_readers.reading("session"):
            events = [event(read), event(unread, "nobody")]
            await turn_loop()
            event_readers.end_all()
            for each in events:
                with pytest.raises(gr.Error, match="the server is shutting down"):
                    await each
        assert (read.seen, unread.seen) == (["begun", "cancelled"], [])

    go(story())


def test_an_address_has_so_many_events_at_once_and_others_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_limits, "EVENTS_PER_ADDRESS", 2)

    async def story() -> None:
        work = Work()
        with event_readers.reading("session"):
            events = [event(work, host=host) for host in "aab"]
            await turn_loop()
            with pytest.raises(gr.Error, match="Too many requests from your address"):
                await event(work)
            work.free.set()
            assert await asyncio.gather(*events) == ["done"] * 3
            assert await event(work) == "done"
        assert not event_limits._running

    go(story())


def test_streams_and_requests_that_are_answered_themselves_are_counted_while_they_are_open() -> None:
    counted: list[list[str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        counted.append([*event_readers._readers])
        if event_readers.DIRECT in scope:
            with pytest.raises(event_readers.AbandonedError):
                async with event_readers.answering(frozenset({scope[event_readers.DIRECT]})):
                    await asyncio.Event().wait()

    async def ask(method: str, path: str, query: str = "") -> None:
        messages = [{"type": "http.request", "body": b'{"data": []}'}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        async def lessons() -> None: ...

        blocks: Any = SimpleNamespace(fns={0: SimpleNamespace(api_name="lessons", inputs=[], fn=lessons)})
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": []}
        await RequestFilter(app, blocks)(scope, receive, send)

    async def story() -> None:
        await ask("GET", "/gradio_api/queue/data", "session_hash=session")
        await ask("GET", "/gradio_api/call/train/abc")
        await ask("GET", "/gradio_api/call/v2/train/abc")
        await ask("GET", "/config")
        await ask("POST", "/gradio_api/run/lessons")
        await ask("GET", "/files/regression/bundle.zip")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_readers, "NEXT_READER_SECONDS", 0)
        go(story())
    assert counted[:4] == [["session"], ["abc"], ["abc"], []]
    assert [len(each) for each in counted[4:]] == [1, 1]
    assert not event_readers._readers


def test_train_starts_when_its_answer_is_read_and_ends_when_the_client_disconnects(served: Served) -> None:
    url, *_ = served
    lesson, values = LONG["data"]
    bodies: dict[str, dict[str, Any]] = {
        "call/train": LONG,
        "call/v2/train": {"lesson": lesson, "settings": values},
        "queue/join": {"data": [lesson, values, None], "session_hash": "reader"},
    }

    async def story() -> None:
        async with httpx.AsyncClient(base_url=f"{url}/gradio_api/", timeout=60) as client:

            async def training() -> int:
                return int((await client.get(f"{url}/health")).json()["runs"])

            async def until(count: int) -> None:
                while await training() != count:
                    await asyncio.sleep(0.05)

            functions = (await client.get(f"{url}/config")).json()["dependencies"]
            (bodies["queue/join"]["fn_index"],) = [each["id"] for each in functions if each["api_name"] == "train"]
            streams = []
            for path, body in bodies.items():
                event = (await client.post(path, json=body)).raise_for_status().json()["event_id"]
                streams.append("queue/data?session_hash=reader" if path == "queue/join" else f"{path}/{event}")
            assert await training() == 0
            reading = [asyncio.create_task(client.get(stream)) for stream in streams]
            reading.append(asyncio.create_task(client.post("run/train", json=LONG)))
            file = "files/batchnorm/bundle.zip?steps=2000&batch_size=500"
            reading.append(asyncio.create_task(client.get(f"{url}/{file}")))
            await until(len(reading))
            for each in reading:
                each.cancel()
            await until(0)

    go(asyncio.wait_for(story(), 60))
