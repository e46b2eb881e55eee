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
from gradio.routes import App
from starlette.routing import Mount

from server import gradio_adapter
from server.gradio_adapter import PRIVATE_NAMES, Mailbox, StatelessSession
from tests.test_runs import go

ROOT = Path(__file__).parent.parent
ATTRIBUTES = ("_queue", "_data", "fns", "state_holder", "default_config", "max_thread_count")


def mounted(app: FastAPI | None = None) -> gr.Blocks:
    """Blocks that are mounted as the app mounts them, in an application of their own unless one is given."""
    with gradio_adapter.LoggingBlocks() as demo:
        box = gr.Textbox()
        box.change(lambda text: text, box, box, api_name="echo")
        box.change(None, box, box, js="(text) => text", api_name="in_the_browser")
    assert isinstance(demo, gr.Blocks)
    gr.mount_gradio_app(app or FastAPI(), demo, "/")
    gradio_adapter.set_up(demo)
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
        instances = {"gradio.blocks.Blocks": mounted()}
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


def test_the_method_that_the_adapter_overrides_takes_the_arguments_that_it_took() -> None:
    assert [*inspect.signature(gr.Blocks.process_api).parameters][:3] == ["self", "block_fn", "inputs"]


@pytest.mark.parametrize("private", PRIVATE_NAMES, ids=lambda private: private.name)
def test_a_private_name_says_why_it_is_used_and_when_it_can_go(private: gradio_adapter.PrivateName) -> None:
    assert private.reason
    assert private.removable
    last = private.name.rpartition(".")[2]
    source = (ROOT / "server" / "gradio_adapter.py").read_text(encoding="utf-8").partition("class LoggingBlocks")[2]
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
    unlisted = {name for name in imported if not any(each.startswith(name) for each in listed)}
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


def test_neither_a_session_nor_a_call_without_one_copies_the_configuration_of_all_components() -> None:
    async def story() -> None:
        app = FastAPI()
        demo = mounted(app)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            for session in ("client", None):
                answer = await client.post("/gradio_api/run/echo", json={"data": ["x"], "session_hash": session})
                assert answer.json()["data"] == ["x"]
        (gradio_app,) = [route.app for route in app.routes if isinstance(route, Mount)]
        assert isinstance(gradio_app, App)
        (state,) = gradio_app.state_holder.session_data.values()
        assert isinstance(state, StatelessSession)
        assert state.blocks_config is demo.default_config
        assert state.config_values == {}
        without, _ = route_utils.restore_session_state(gradio_app, PredictBodyInternal(session_hash=None, data=[]))
        assert isinstance(without, StatelessSession)

    go(story())


def test_an_unexpected_exception_of_a_handler_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> str:
        app = FastAPI()
        demo = mounted(app)
        (echo, *_) = demo.fns.values()

        def fail(text: str) -> str:
            raise ValueError("secret")

        echo.fn = fail
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return (await client.post("/gradio_api/run/echo", json={"data": ["x"]})).text

    told = go(story())
    assert gradio_adapter.INTERNAL_ERROR in told
    assert "secret" not in told
    assert "secret" in caplog.text


def test_a_message_to_a_client_that_has_left_is_dropped_and_stops_no_queue() -> None:
    async def story() -> None:
        demo = mounted()
        queue = demo._queue
        event: Any = SimpleNamespace(alive=True, _id="event", session_hash="gone")
        queue.send_message(event, SimpleNamespace(msg="process_starts", event_id=None))  # type: ignore[arg-type]
        assert "gone" not in queue.pending_messages_per_session
        assert gradio_adapter.queue_works(demo)

    go(story())


def test_no_client_loses_its_messages_to_a_crowd_of_others() -> None:
    async def story() -> None:
        mailboxes = mounted()._queue.pending_messages_per_session
        for number in range(3000):
            mailboxes[f"client {number}"] = asyncio.Queue()  # as Gradio puts it
        assert isinstance(mailboxes["client 0"], Mailbox)
        assert "client 0" in mailboxes

    go(story())


def test_what_a_client_does_not_read_is_deleted_and_what_another_reads_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        demo = mounted()
        queue = demo._queue
        for session in ("left", "reading"):
            queue.pending_messages_per_session[session] = asyncio.Queue()
            queue.pending_event_ids_session[session] = {f"event of {session}"}
        queue.pending_event_ids_session["answered"] = set()
        gradio_adapter.sweep(demo)
        assert {*queue.pending_messages_per_session} == {*queue.pending_event_ids_session} == {"left", "reading"}
        now = time.monotonic() + gradio_adapter.UNREAD_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: now)
        reading = asyncio.create_task(queue.pending_messages_per_session["reading"].get())
        await asyncio.sleep(0)
        gradio_adapter.sweep(demo)
        assert {*queue.pending_messages_per_session} == {*queue.pending_event_ids_session} == {"reading"}
        reading.cancel()

    go(story())


def test_a_function_is_found_by_number_or_name_and_one_of_the_browser_is_none() -> None:
    async def story() -> None:
        demo = mounted()
        assert gradio_adapter.parameters(demo, name="echo") == ("text",)
        assert gradio_adapter.parameters(demo, 0) == ("text",)
        assert gradio_adapter.parameters(demo, 99) is gradio_adapter.parameters(demo, name="nope") is None
        assert gradio_adapter.parameters(demo, 1) is gradio_adapter.parameters(demo, name="in_the_browser") is None

    go(story())
