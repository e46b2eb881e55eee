"""What nobody waits for is not begun, or is ended."""

import asyncio
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from runs.admission import Shares
from server import event_limits, event_readers
from server.request_filter import RequestFilter
from tests.test_runs import go

READ = "/gradio_api/queue/data"


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for."""
    monkeypatch.setattr(event_readers, "FIRST_READER_SECONDS", 0)
    monkeypatch.setattr(event_readers, "NEXT_READER_SECONDS", 0)


class Work:
    """A handler that lasts until it is told, and what became of it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.free = asyncio.Event()

    async def once(self) -> str:
        self.seen.append("begun")
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        return "done"

    async def by_and_by(self) -> Any:
        yield "first"
        yield await self.once()


def event(handler: Any, name: str = "page", **how: Any) -> "asyncio.Task[Any]":
    """The event of a page, as Gradio's queue has it answered."""
    scope = {"type": "http", "headers": [], "client": ("a", 1)}
    request = gr.Request(request=Request(scope), session_hash=name)
    limited = event_limits.limited(handler, **how)

    async def answered() -> Any:
        LocalContext.request.set(request)
        LocalContext.event_id.set(f"event of {name}")
        if hasattr(result := limited(), "__aiter__"):
            return [shown async for shown in result]
        return await result

    return asyncio.create_task(answered())


async def turn_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", [{"wait_for_reader": True}, {"shares": Shares(6)}], ids=["figures", "training"][::-1])
def test_what_costs_much_is_not_begun_for_nobody(how: Any) -> None:
    async def story() -> list[str]:
        work = Work()
        with pytest.raises(gr.Error, match="The client has disconnected"):
            await event(work.once, **how)
        with pytest.raises(gr.Error, match="The client has disconnected"):
            await event(work.by_and_by)
        return work.seen

    assert go(story()) == []


@pytest.mark.parametrize("name", ["page", "event of page"])
def test_what_somebody_reads_is_begun_and_ends_when_the_stream_is_gone(name: str) -> None:
    async def story() -> None:
        for handler in ("once", "by_and_by"):
            work = Work()
            with event_readers.reading(name):
                answering = event(getattr(work, handler), wait_for_reader=True)
                await turn_loop()
                assert work.seen == ["begun"]
            with pytest.raises(gr.Error, match="The client has disconnected"):
                await answering
            assert work.seen == ["begun", "cancelled"]
        assert not event_readers._events
        assert not event_readers._readers

    go(story())


def test_a_page_that_closes_one_stream_and_opens_the_next_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_readers, "NEXT_READER_SECONDS", 60)

    async def story() -> Any:
        work = Work()
        with event_readers.reading("page"):
            answering = event(work.once, wait_for_reader=True)
            await turn_loop()
        with event_readers.reading("page"):
            work.free.set()
            return await answering

    assert go(story()) == "done"


def test_a_stream_of_another_page_is_no_reader() -> None:
    async def story() -> None:
        with event_readers.reading("another"), pytest.raises(gr.Error, match="The client has disconnected"):
            await event(Work().once, wait_for_reader=True)

    go(story())


def test_streams_and_requests_that_are_answered_themselves_are_counted_while_they_are_open() -> None:
    counted: list[list[str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        counted.append([*event_readers._readers])
        if event_readers.DIRECT in scope:
            assert scope[event_readers.DIRECT] in event_readers._readers
            left = asyncio.Event()
            with event_readers.answering(frozenset({scope[event_readers.DIRECT]})) as event:
                await event.first_reader()
                with pytest.raises(event_readers.AbandonedError):
                    async with event.cancelled_if_abandoned():
                        await left.wait()

    async def ask(method: str, path: str, query: str = "") -> None:
        messages = [{"type": "http.request", "body": b'{"data": []}'}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        functions = {0: SimpleNamespace(api_name="lessons", inputs=[], api_visibility="private")}
        blocks: Any = SimpleNamespace(fns=functions)
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": []}
        await RequestFilter(app, blocks)(scope, receive, send)

    async def story() -> None:
        await ask("GET", READ, "session_hash=page")
        await ask("GET", "/gradio_api/call/train/abc")
        await ask("GET", "/gradio_api/heartbeat/page")
        await ask("POST", "/gradio_api/run/lessons")

    go(story())
    assert counted[:3] == [["page"], ["abc"], []]
    assert len(counted[3]) == 1
    assert not event_readers._readers
