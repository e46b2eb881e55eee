"""The two languages of the page: Gradio's I18n for labels of its components, HTML with both texts elsewhere.

Gradio detects the browser's language. It knows zh-CN and zh-TW, but falls back from zh to English. Translations are
therefore given for all three, and language.js selects zh-CN for every Chinese language tag.
"""

from typing import Any

import gradio as gr

from charts.text import Text

_keys: dict[Text, str] = {}


def label(text: Text) -> Any:
    """The translated text for a component's label, info, choice or value."""
    key = _keys.setdefault(text, f"live-nets-{len(_keys)}")
    return gr.I18n()(key)


def translations() -> gr.I18n:
    """All texts that `label` was called with; call it after the page is built."""
    english = {key: text.en for text, key in _keys.items()}
    chinese = {key: text.zh for text, key in _keys.items()}
    return gr.I18n(**{"en": english, "zh": chinese, "zh-CN": chinese, "zh-TW": chinese})
