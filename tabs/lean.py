"""Gradio's Blocks without what a crowd pays for and this page does not use.

For every new visitor, Gradio describes all four hundred components once more, in 44 ms and a megabyte, so that a link
could be made of their values. For every update of a component it makes another, in a millisecond, to read the next
input with; and for every frame of a run it asks a thread whether a string is a string. Here no such link is made,
handlers read their inputs themselves, and an update goes out as it is.
"""

import asyncio
import logging
import time
from collections import defaultdict
from typing import Any

import gradio as gr
from gradio import processing_utils, route_utils
from gradio.block_function import BlockFunction
from gradio.blocks import Block, Blocks, postprocess_update_dict
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

MOST_UNREAD = 100  # messages to a page; beyond them frames are left out, as nobody reads them
UNREAD_SECONDS = 120  # that messages are kept for a page that neither gets any nor reads

BROKEN = "Something went wrong on our side, and this was not done. Please try again."

PLAIN = {"value", "visible", "interactive", "__type__"}  # what may be updated of a component that is no gr.HTML

_log = logging.getLogger(__name__)


class Page(gr.Blocks):
    """Blocks whose handlers give updates, `gr.update` and `gr.skip`, and need no copy of a component."""

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What a handler gives; what it raises and did not mean for visitors is logged in a line."""
        try:
            return await super().process_api(*args, **kwargs)
        except (gr.Error, StopAsyncIteration):
            raise
        except Exception as error:
            _log.exception("handler failed")
            raise gr.Error(BROKEN, print_exception=False) from error

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        """What goes out to the page for what a handler gave."""
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


class Box(asyncio.Queue[Any]):
    """The messages to a page, no more of them than somebody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.touched = time.monotonic()

    def put_nowait(self, item: Any) -> None:
        if self.qsize() < MOST_UNREAD or getattr(item, "msg", "") == "process_completed":
            super().put_nowait(item)

    async def get(self) -> Any:
        self.touched = time.monotonic()
        try:
            return await super().get()
        finally:
            self.touched = time.monotonic()


class Boxes(dict[str, Any]):
    """The boxes of all pages. Gradio's own drops a page while it is served, and then its whole queue on missing one."""

    def __missing__(self, session: str) -> Box:
        return Box()  # nobody reads it

    def __setitem__(self, session: str, box: Any) -> None:
        super().__setitem__(session, Box())


class Session(SessionState):
    """A visitor's page, which holds nothing: all components are as they were built."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = blocks.default_config
        self.config_values = {}
        self.state_data = {}
        self._state_ttl = {}
        self.is_closed = False

    def __setitem__(self, key: int, value: Any) -> None:
        """Nothing."""

    def _update_config(self, key: int) -> None:
        """Nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing."""


class Sessions(StateHolder):
    """Gives a Session for every page that asks."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)

    def forget(self, session_id: str) -> None:
        """Keep nothing of a page that is closed."""
        self.session_data.pop(session_id, None)
        self.time_last_used.pop(session_id, None)


def sweep(blocks: Blocks) -> None:
    """Forget the messages to pages that are gone without a word, and Gradio's list of their events."""
    queue = blocks._queue
    before = time.monotonic() - UNREAD_SECONDS
    busy = {event.session_hash for event in queue.event_ids_to_events.values()}
    for session, box in list(queue.pending_messages_per_session.items()):
        if box.touched < before and session not in busy:
            queue.pending_messages_per_session.pop(session, None)
    for session in list(queue.pending_event_ids_session):
        if session not in queue.pending_messages_per_session and session not in busy:
            del queue.pending_event_ids_session[session]


def make_lean(app: App) -> Sessions:
    """Have the app keep Sessions, these; and make a Session too of each call that names no page."""
    route_utils.SessionState = Session  # type: ignore[attr-defined]  # its own takes 44 ms a call, of everybody's time
    app.state_holder = sessions = Sessions()  # type: ignore[no-untyped-call]
    sessions.set_blocks(app.get_blocks())
    queue = app.get_blocks()._queue
    queue.pending_messages_per_session = Boxes()  # type: ignore[assignment]
    queue.pending_event_ids_session = defaultdict(set)  # a page closed in mid-answer has none, which Gradio trips on
    return sessions
