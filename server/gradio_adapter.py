"""All code of this app that relies on private names of Gradio.

`PRIVATE_NAMES` lists them, each with the reason for its use, the upstream issue if there is one, and the condition for
its removal. `tests/test_gradio_adapter.py` checks them against the installed version, and that no other module of
the app uses one.
"""

import asyncio
import inspect
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio import processing_utils, route_utils
from gradio.block_function import BlockFunction
from gradio.blocks import Block, Blocks, postprocess_update_dict
from gradio.context import LocalContext
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder
from starlette.routing import Mount

MOST_SESSIONS = 1000  # most sessions in memory; an evicted one is created again when its page sends an event
MOST_UNREAD = 100  # messages to a page; further frames are dropped until the page reads again
UNREAD_SECONDS = 120  # of inactivity, after which the messages to a page are deleted

INTERNAL_ERROR = "Something went wrong on our side, and this was not done. Please try again."

PLAIN = {"value", "visible", "interactive", "__type__"}  # properties that any component can be updated with

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrivateName:
    """A private name of Gradio that this module uses.

    `name` is a dotted path, or an attribute of an instance after `():`. `issue` is a GitHub issue or pull request of
    gradio-app/gradio, or 0.
    """

    name: str
    reason: str
    removable: str
    issue: int = 0


_LIVE_CHANNEL = "frames no longer go through Gradio's queue"

PRIVATE_NAMES = (
    PrivateName(
        "gradio.state_holder.SessionState",
        "copies the configuration of all components for each page, in 44 ms",
        "Gradio copies it on demand, or the page has few components",
        8030,
    ),
    PrivateName("gradio.state_holder.StateHolder", "creates these copies", "SessionState can go", 8030),
    PrivateName("gradio.route_utils.SessionState", "creates one for each call without a page", "SessionState can go"),
    PrivateName("gradio.blocks.Blocks().app", "the application that holds the StateHolder", "StateHolder can go"),
    PrivateName("gradio.blocks.Blocks().app.state_holder", "holds the SessionStates", "StateHolder can go"),
    PrivateName("gradio.blocks.Blocks().app.state_holder.set_blocks", "gives it the Blocks", "StateHolder can go"),
    PrivateName("gradio.blocks.Blocks().app.state_holder.session_data", "keeps closed pages", "StateHolder can go"),
    PrivateName("gradio.blocks.Blocks().app.state_holder.time_last_used", "keeps closed pages", "StateHolder can go"),
    PrivateName(
        "gradio.blocks.Blocks().state_session_capacity",
        "bounds the sessions; only launch() sets it",
        "StateHolder can go",
    ),
    PrivateName("gradio.blocks.Blocks().default_config", "the components as they were built", "SessionState can go"),
    PrivateName(
        "gradio.blocks.Blocks().app.stop_event", "ends the streams of open pages at shutdown", "Gradio's lifespan does"
    ),
    PrivateName(
        "gradio.blocks.Blocks().is_running", "the same; only Blocks.close() resets it", "Gradio's lifespan does"
    ),
    PrivateName("gradio.routes.App", "to find the mounted application", "StateHolder can go"),
    PrivateName(
        "gradio.blocks.Blocks.process_api",
        "logs an unexpected exception in one line, and shows a sentence instead of the exception",
        "Gradio has a hook for exceptions of handlers",
    ),
    PrivateName(
        "gradio.blocks.Blocks.postprocess_data",
        "creates a component for each update, in 1 ms, to preprocess the next input",
        _LIVE_CHANNEL,
        5240,
    ),
    PrivateName("gradio.blocks.postprocess_update_dict", "creates the update that is sent to the page", _LIVE_CHANNEL),
    PrivateName(
        "gradio.processing_utils.async_move_files_to_cache", "copies the files of an update to the cache", _LIVE_CHANNEL
    ),
    PrivateName("gradio.context.LocalContext", "the request and event id of a handler, for limits", _LIVE_CHANNEL),
    PrivateName(
        "gradio.blocks.Blocks()._queue.pending_messages_per_session",
        "has no limit on unread messages of a page, and evicts pages that are in use",
        _LIVE_CHANNEL,
        13756,
    ),
    PrivateName(
        "gradio.blocks.Blocks()._queue.pending_event_ids_session",
        "keeps an entry for each page that was closed during an event",
        _LIVE_CHANNEL,
        13756,
    ),
    PrivateName("gradio.blocks.Blocks()._queue.event_ids_to_events", "events still running", _LIVE_CHANNEL),
    PrivateName(
        "gradio.blocks.Blocks()._queue.max_thread_count",
        "bounds the running events; launch() sets it and mount_gradio_app() cannot",
        _LIVE_CHANNEL,
    ),
    PrivateName("gradio.blocks.Blocks()._queue.close", "stops the queue at shutdown", "Gradio's lifespan does"),
    PrivateName("gradio.blocks.Blocks()._queue.stopped", "whether the queue still works, for /health", _LIVE_CHANNEL),
    PrivateName(
        "gradio.blocks.Blocks().fns",
        "the number of inputs of each endpoint, to validate requests",
        "Gradio checks them",
    ),
    PrivateName("gradio.EventData()._data", "the data that the page's script sends with an event", _LIVE_CHANNEL),
)


class StatelessBlocks(gr.Blocks):
    """Blocks that keep no state for a page: handlers return `gr.update` and `gr.skip`."""

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a handler. Logs an unexpected exception, and raises gr.Error in its place."""
        try:
            return await super().process_api(*args, **kwargs)
        except (gr.Error, StopAsyncIteration):
            raise
        except Exception as error:
            _log.exception("handler failed")
            raise gr.Error(INTERNAL_ERROR, print_exception=False) from error

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        """Convert a handler's return value to the updates that are sent to the page."""
        if len(block_fn.outputs) == 1 and not block_fn.batch:
            updates = [predictions]
        else:
            updates = list(predictions) if isinstance(predictions, list | tuple) else []
        if len(updates) != len(block_fn.outputs) or not all(map(_is_plain, block_fn.outputs, updates)):
            return list(await super().postprocess_data(block_fn, predictions, state))
        return [await _sent(block, dict(update)) for block, update in zip(block_fn.outputs, updates, strict=True)]


def _is_plain(block: Block, update: Any) -> bool:
    return (
        isinstance(update, dict)
        and update.get("__type__") == "update"
        and (isinstance(block, gr.HTML) or update.keys() <= PLAIN)
    )


async def _sent(block: Any, update: dict[str, Any]) -> Any:
    del update["__type__"]
    only = {name: update.pop(name) for name in ("visible", "interactive") if name in update}
    sent = {**postprocess_update_dict(block, update), **only}
    return await processing_utils.async_move_files_to_cache(sent, block, postprocess=True)


class Mailbox(asyncio.Queue[Any]):
    """Messages to a page. Drops frames beyond MOST_UNREAD, and never the message that ends an event."""

    def __init__(self) -> None:
        super().__init__()
        self.used = time.monotonic()

    def put_nowait(self, item: Any) -> None:
        if self.qsize() < MOST_UNREAD or getattr(item, "msg", "") == "process_completed":
            super().put_nowait(item)

    async def get(self) -> Any:
        self.used = time.monotonic()
        try:
            return await super().get()
        finally:
            self.used = time.monotonic()


class Mailboxes(dict[str, Any]):
    """The Mailbox of each page, by session hash.

    Gradio's own dictionary is an LRU cache: it evicts pages that are in use, and a missing page stops the whole queue.
    """

    def __missing__(self, session: str) -> Mailbox:
        return Mailbox()  # for a closed page

    def __setitem__(self, session: str, queue: Any) -> None:
        super().__setitem__(session, Mailbox())


class StatelessSession(SessionState):
    """A session without state: all components keep their initial configuration."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = blocks.default_config
        self.config_values = {}
        self.state_data = {}
        self._state_ttl = {}
        self.is_closed = False

    def __setitem__(self, key: int, value: Any) -> None:
        """Ignore the new value."""

    def _update_config(self, key: int) -> None:
        """Ignore the new configuration."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Ignore the new value."""


class StatelessSessions(StateHolder):
    """Creates a StatelessSession for each page."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = StatelessSession(self.blocks)
        return super().__getitem__(session_id)


def mounted_app(app: FastAPI) -> App:
    """Gradio's own application in the one that it was mounted in. Raises LookupError if there is none."""
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, App):
            return route.app
    raise LookupError("gr.mount_gradio_app has mounted no gradio.routes.App")


def make_stateless(app: FastAPI, blocks: Blocks, most_events: int) -> None:
    """Replace Gradio's sessions and mailboxes; call after mounting the blocks in `app`, before it starts.

    `most_events` is the number of events that may run at once.
    """
    blocks.app = mounted_app(app)  # launch() sets it; mount_gradio_app() leaves an application that is never served
    blocks.state_session_capacity = MOST_SESSIONS
    route_utils.SessionState = StatelessSession  # type: ignore[attr-defined]
    blocks.app.state_holder = sessions = StatelessSessions()  # type: ignore[no-untyped-call]
    sessions.set_blocks(blocks)
    queue = blocks._queue
    queue.max_thread_count = most_events
    queue.pending_messages_per_session = Mailboxes()  # type: ignore[assignment]
    queue.pending_event_ids_session = defaultdict(set)  # Gradio expects an entry even for a closed page


def forget_page(blocks: Blocks, session: str) -> None:
    """Delete Gradio's data of a closed page."""
    sessions = blocks.app.state_holder
    sessions.session_data.pop(session, None)
    sessions.time_last_used.pop(session, None)
    blocks._queue.pending_event_ids_session.pop(session, None)


def sweep(blocks: Blocks) -> None:
    """Delete the mailboxes and event ids of pages that disappeared without closing."""
    queue = blocks._queue
    before = time.monotonic() - UNREAD_SECONDS
    busy = {event.session_hash for event in queue.event_ids_to_events.values()}
    for session, mailbox in list(queue.pending_messages_per_session.items()):
        if mailbox.used < before and session not in busy:
            queue.pending_messages_per_session.pop(session, None)
    for session in list(queue.pending_event_ids_session):
        if session not in queue.pending_messages_per_session and session not in busy:
            del queue.pending_event_ids_session[session]


def stop(blocks: Blocks) -> None:
    """End the queue and the streams of all open pages, as `Blocks.close` does; call when the server shuts down."""
    blocks._queue.close()
    blocks.is_running = False
    blocks.app.stop_event.set()


def queue_works(blocks: Blocks) -> bool:
    """Whether Gradio's queue still starts events."""
    return not blocks._queue.stopped


@dataclass(frozen=True)
class Endpoint:
    """An event handler: its number of inputs and, if it is public, the names of its parameters."""

    inputs: int
    parameters: tuple[str, ...] | None


def endpoint(blocks: Blocks, number: object = None, name: str | None = None) -> Endpoint | None:
    """The endpoint with that number, or else with that name; None if there is none."""
    functions: Mapping[int, Any] = blocks.fns
    if number is None:
        function = next((each for each in functions.values() if each.api_name == name), None)
    else:
        function = functions.get(number) if isinstance(number, int) else None
    if function is None:
        return None
    parameters = None
    if function.api_visibility == "public":
        parameters = tuple(inspect.signature(function.fn).parameters)[: len(function.inputs)]
    return Endpoint(len(function.inputs), parameters)


def current_request() -> gr.Request | None:
    """The request whose event is being handled."""
    request: gr.Request | None = LocalContext.request.get(None)
    return request


def current_event_id() -> str | None:
    """The id of the event that is being handled; None if it did not come through the queue."""
    event: str | None = LocalContext.event_id.get(None)
    return event


def sent_with(event: gr.EventData, name: str) -> Any:
    """The value of that name that the page's script sent with an event, or None."""
    return event._data.get(name) if isinstance(event._data, dict) else None
