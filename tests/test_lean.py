"""Gradio's Blocks without what a crowd pays for."""

import gradio as gr
from gradio import route_utils
from gradio.data_classes import PredictBodyInternal
from gradio.routes import App

from tabs import lean
from tests.test_runs import go


def test_neither_a_page_nor_a_call_that_names_none_has_all_components_described_anew() -> None:
    async def story() -> None:
        with lean.Page() as demo:
            gr.HTML()
        app = App.create_app(demo)
        lean.make_lean(app)
        for page in ("page", None):
            state, _ = route_utils.restore_session_state(app, PredictBodyInternal(session_hash=page, data=[]))
            assert isinstance(state, lean.Session)

    go(story())
