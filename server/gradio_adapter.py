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
from gradio import route_utils, state_holder
from gradio.blocks import Blocks
from gradio.context import LocalContext
from gradio.state_holder import SessionState

MOST_EVENTS = 500  # at once: calls of /train that train, wait in line, or wait for a reader
POLL_SECONDS = 0.02  # between two looks at the queue
UNREAD_SECONDS = 120  # after which the messages to a client that does not read them are deleted

INTERNAL_ERROR = "Something went wrong on our side, and this was not done. Please try again."

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


PRIVATE_NAMES = (
    PrivateName(
        "gradio.state_holder.SessionState",
        "copies the configuration of all components for each client, in 17 ms and 0.5 MB",
        "Gradio copies it on demand",
        8030,
    ),
    PrivateName("gradio.route_utils.SessionState", "the same for each call without a session", "the same", 8030),
    PrivateName("gradio.blocks.Blocks().default_config", "the components as they were built", "SessionState can go"),
    PrivateName(
        "gradio.blocks.Blocks.process_api",
        "logs an unexpected exception in one line, and shows a sentence instead of the exception",
        "Gradio has a hook for exceptions of handlers",
    ),
    PrivateName(
        "gradio.context.LocalContext",
        "the request and event id of a handler, to cancel it when its client disconnects",
        "Gradio cancels it",
    ),
    PrivateName(
        "gradio.blocks.Blocks()._queue.pending_messages_per_session",
        "an LRU cache, which evicts clients that wait for an answer, and stops the queue when it misses one",
        "Gradio deletes the messages that nobody reads, and no others",
        13756,
    ),
    PrivateName(
        "gradio.blocks.Blocks()._queue.pending_event_ids_session",
        "keeps an entry for each client forever",
        "the same",
        13756,
    ),
    PrivateName(
        "gradio.blocks.Blocks()._queue.max_thread_count",
        "bounds the running events; launch() sets it and mount_gradio_app() cannot",
        "mount_gradio_app() sets it",
    ),
    PrivateName(
        "gradio.blocks.Blocks()._queue.sleep_when_free",
        "asks a thousand times a second whether an event waits, which takes 4% of a processor",
        "Gradio waits for events",
    ),
    PrivateName("gradio.blocks.Blocks()._queue.stopped", "whether the queue works, for /health", "it cannot stop"),
    PrivateName(
        "gradio.blocks.Blocks().fns",
        "the parameters of each function, to validate requests",
        "Gradio checks them",
    ),
)


class LoggingBlocks(gr.Blocks):
    """Blocks whose handlers log their unexpected exceptions."""

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a handler. Logs an unexpected exception, and raises gr.Error in its place."""
        try:
            return await super().process_api(*args, **kwargs)
        except (gr.Error, StopAsyncIteration):
            raise
        except Exception as error:
            _log.exception("handler failed")
            raise gr.Error(INTERNAL_ERROR, print_exception=False) from error


class Mailbox(asyncio.Queue[Any]):
    """Messages to a client, and when it last read some (time.monotonic)."""

    def __init__(self) -> None:
        super().__init__()
        self.read = time.monotonic()

    async def get(self) -> Any:
        self.read = time.monotonic()
        return await super().get()


class Mailboxes(dict[str, Any]):
    """The Mailbox of each client, by session hash. A message to a client that has left is dropped."""

    def __missing__(self, session: str) -> Mailbox:
        return Mailbox()

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

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Ignore the new value."""


def set_up(blocks: Blocks) -> None:
    """Replace Gradio's sessions and mailboxes, and bound its events; call before the blocks are served."""
    for module in (state_holder, route_utils):
        module.SessionState = StatelessSession  # type: ignore[attr-defined]
    queue = blocks._queue
    queue.max_thread_count = MOST_EVENTS
    queue.sleep_when_free = POLL_SECONDS
    queue.pending_messages_per_session = Mailboxes()  # type: ignore[assignment]
    queue.pending_event_ids_session = defaultdict(set)  # Gradio expects an entry even for a client that has left


def sweep(blocks: Blocks) -> None:
    """Delete the messages and event ids of clients that have read nothing for UNREAD_SECONDS.

    Their events are over by then: `event_limits` cancels them.
    """
    queue = blocks._queue
    before = time.monotonic() - UNREAD_SECONDS
    mailboxes = queue.pending_messages_per_session
    for session in [session for session, mailbox in mailboxes.items() if mailbox.read < before]:
        del mailboxes[session]
    for session in [session for session in queue.pending_event_ids_session if session not in mailboxes]:
        del queue.pending_event_ids_session[session]


def queue_works(blocks: Blocks) -> bool:
    """Whether Gradio's queue still starts events."""
    return not blocks._queue.stopped


def parameters(blocks: Blocks, number: object = None, name: str | None = None) -> tuple[str, ...] | None:
    """The parameters of the function with that number, or else with that name; None if there is no such function.

    The page's events run in the browser: they have no function here.
    """
    functions: Mapping[int, Any] = blocks.fns
    if number is None:
        function = next((each for each in functions.values() if each.api_name == name), None)
    else:
        function = functions.get(number) if isinstance(number, int) else None
    if function is None or function.fn is None:
        return None
    return tuple(inspect.signature(function.fn).parameters)[: len(function.inputs)]


def current_request() -> gr.Request | None:
    """The request whose event is being handled."""
    request: gr.Request | None = LocalContext.request.get(None)
    return request


def current_event_id() -> str | None:
    """The id of the event that is being handled; None if it did not come through the queue."""
    event: str | None = LocalContext.event_id.get(None)
    return event
