"""What the app relies on in Gradio beyond its public API, and what it puts in its place."""

import ast
import asyncio
import importlib
import inspect
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI
from gradio import route_utils
from gradio.data_classes import PredictBodyInternal

from server import gradio_adapter
from server.gradio_adapter import MOST_UNREAD, PRIVATE_NAMES, Mailbox, Mailboxes, StatelessSession
from tests.test_runs import go

ROOT = Path(__file__).parent.parent
ATTRIBUTES = ("_queue", "_data", "fns", "state_holder", "default_config", "max_thread_count")


def mounted(app: FastAPI | None = None) -> gr.Blocks:
    """Blocks that are mounted as the app mounts them, in an application of their own unless one is given."""
    with gradio_adapter.StatelessBlocks() as demo:
        box = gr.Textbox()
        box.change(lambda text: text, box, box, api_name="echo")
    assert isinstance(demo, gr.Blocks)
    app = app or FastAPI()
    gr.mount_gradio_app(app, demo, "/")
    gradio_adapter.make_stateless(app, demo, 7)
    return demo


def resolve(name: str, instances: dict[str, Any]) -> Any:
    """The object that a PrivateName stands for. Raises AttributeError where the name breaks off."""
    owner, is_attribute, attributes = name.partition("().")
    if is_attribute:
        value = instances[owner]
    else:
        module, attributes = owner, ""
        while True:
            try:
                value = importlib.import_module(module)
                break
            except ModuleNotFoundError:
                module, _, last = module.rpartition(".")
                attributes = f"{last}.{attributes}" if attributes else last
    for attribute in attributes.split("."):
        value = getattr(value, attribute)
    return value


def test_this_gradio_has_every_private_name_that_the_adapter_uses() -> None:
    async def story() -> None:
        instances = {"gradio.blocks.Blocks": mounted(), "gradio.EventData": gr.EventData(None, {"idea": 1})}
        missing = []
        for private in PRIVATE_NAMES:
            try:
                resolve(private.name, instances)
            except AttributeError as error:
                missing.append(
                    f"Gradio {gr.__version__} has no {private.name} ({error}). Used because: {private.reason}."
                )
        assert not missing, "\\n".join(missing)

    go(story())


def test_the_methods_that_the_adapter_overrides_take_the_arguments_that_they_took() -> None:
    parameters = inspect.signature(gr.Blocks.postprocess_data).parameters
    assert [*parameters] == ["self", "block_fn", "predictions", "state"]
    assert [*inspect.signature(gr.Blocks.process_api).parameters][:3] == ["self", "block_fn", "inputs"]


@pytest.mark.parametrize("private", PRIVATE_NAMES, ids=lambda private: private.name)
def test_a_private_name_says_why_it_is_used_and_when_it_can_go(private: gradio_adapter.PrivateName) -> None:
    assert private.reason
    assert private.removable
    last = private.name.rpartition(".")[2]
    source = (ROOT / "server" / "gradio_adapter.py").read_text(encoding="utf-8").partition("class StatelessBlocks")[2]
    assert re.search(rf"\b{last}\b", source), f"{private.name} is no longer used"


def test_every_name_that_the_adapter_imports_from_gradio_is_listed() -> None:
    tree = ast.parse((ROOT / "server" / "gradio_adapter.py").read_text(encoding="utf-8"))
    imported = {
        f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gradio"
        for name in node.names
    }
    listed = {private.name for private in PRIVATE_NAMES}
    types = {"gradio.block_function.BlockFunction", "gradio.blocks.Block", "gradio.blocks.Blocks"}
    unlisted = {name for name in imported - types if not any(each.startswith(name) for each in listed)}
    assert unlisted == set()


def test_no_other_module_uses_a_private_name_of_gradio() -> None:
    found = []
    files = [ROOT / "app.py", *(path for folder in ("server", "tabs") for path in sorted((ROOT / folder).glob("*.py")))]
    for path in files:
        if path.name == "gradio_adapter.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradio."):
                found += [f"{path.name}: {node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
                found.append(f"{path.name}: .{node.attr}")
    assert found == ["api.py: gradio.events.api"]  # gr.api


def test_neither_a_page_nor_a_call_without_one_copies_the_configuration_of_all_components() -> None:
    async def story() -> None:
        demo = mounted()
        assert demo._queue.max_thread_count == 7
        assert demo.app.state_holder.capacity == gradio_adapter.MOST_SESSIONS
        for page in ("page", None):
            state, _ = route_utils.restore_session_state(demo.app, PredictBodyInternal(session_hash=page, data=[]))
            assert isinstance(state, StatelessSession)
            assert state.blocks_config is demo.default_config
        gradio_adapter.forget_page(demo, "page")
        assert "page" not in demo.app.state_holder.session_data
        assert "page" not in demo.app.state_holder.time_last_used

    go(story())


def test_a_request_to_the_served_app_gets_a_session_that_keeps_nothing() -> None:
    async def story() -> None:
        app = FastAPI()
        demo = mounted(app)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            body = {"data": ["x"], "session_hash": "page"}
            answer = await client.post("/gradio_api/run/echo", json=body)
        assert answer.json()["data"] == ["x"]
        holder = gradio_adapter.mounted_app(app).state_holder
        assert isinstance(holder.session_data["page"], StatelessSession)
        gradio_adapter.forget_page(demo, "page")
        assert not holder.session_data

    go(story())


def test_a_mailbox_drops_frames_that_are_not_read_and_never_the_end_of_an_event() -> None:
    async def story() -> list[str]:
        mailbox = Mailbox()
        for number in range(MOST_UNREAD + 10):
            mailbox.put_nowait(SimpleNamespace(msg="process_generating", number=number))
        mailbox.put_nowait(SimpleNamespace(msg="process_completed"))
        return [(await mailbox.get()).msg for _ in range(mailbox.qsize())]

    messages = go(story())
    assert messages == ["process_generating"] * MOST_UNREAD + ["process_completed"]


def test_a_message_to_a_page_that_is_gone_is_dropped_and_stops_no_queue() -> None:
    async def story() -> None:
        demo = mounted()
        queue = demo._queue
        event: Any = SimpleNamespace(alive=True, _id="event", session_hash="gone")
        queue.send_message(event, SimpleNamespace(msg="process_generating", event_id=None))  # type: ignore[arg-type]
        assert "gone" not in queue.pending_messages_per_session
        assert gradio_adapter.queue_works(demo)
        queue.pending_messages_per_session["page"] = asyncio.Queue()  # as Gradio puts it
        assert isinstance(queue.pending_messages_per_session["page"], Mailbox)

    go(story())


def test_sweep_forgets_pages_that_went_away_without_closing_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        demo = mounted()
        queue = demo._queue
        assert isinstance(queue.pending_messages_per_session, Mailboxes)
        for session in ("old", "busy", "new"):
            queue.pending_messages_per_session[session] = asyncio.Queue()
            queue.pending_event_ids_session[session] = {f"event of {session}"}
        running: Any = SimpleNamespace(session_hash="busy")
        queue.event_ids_to_events["event of busy"] = running
        now = time.monotonic() + gradio_adapter.UNREAD_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: now)
        reading = asyncio.create_task(queue.pending_messages_per_session["new"].get())
        await asyncio.sleep(0)
        gradio_adapter.sweep(demo)
        assert {*queue.pending_messages_per_session} == {*queue.pending_event_ids_session} == {"busy", "new"}
        reading.cancel()

    go(story())


def test_an_endpoint_is_found_by_number_or_name_and_says_what_it_takes() -> None:
    async def story() -> None:
        demo = mounted()
        assert gradio_adapter.endpoint(demo, name="echo") == gradio_adapter.Endpoint(1, ("text",))
        assert gradio_adapter.endpoint(demo, 0) == gradio_adapter.Endpoint(1, ("text",))
        assert gradio_adapter.endpoint(demo, 99) is gradio_adapter.endpoint(demo, name="nope") is None
        assert gradio_adapter.sent_with(gr.EventData(None, {"idea": 1}), "idea") == 1
        assert gradio_adapter.sent_with(gr.EventData(None, "idea"), "idea") is None

    go(story())
