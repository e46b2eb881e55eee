"""Gradio's Blocks without what a crowd pays for and this page does not use.

For every new visitor, Gradio describes all four hundred components once more, in 44 ms and a megabyte, so that a link
could be made of their values. For every update of a component it makes another, in a millisecond, to read the next
input with; and for every frame of a run it asks a thread whether a string is a string. Here no such link is made,
handlers read their inputs themselves, and an update goes out as it is.
"""

from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.block_function import BlockFunction
from gradio.blocks import Block, Blocks, postprocess_update_dict
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

PLAIN = {"value", "visible", "interactive", "__type__"}  # what may be updated of a component that is no gr.HTML


class Page(gr.Blocks):
    """Blocks whose handlers give updates, `gr.update` and `gr.skip`, and need no copy of a component."""

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


def make_lean(app: App) -> Sessions:
    """Have the app keep Sessions, these."""
    app.state_holder = sessions = Sessions()  # type: ignore[no-untyped-call]
    sessions.set_blocks(app.get_blocks())
    return sessions
