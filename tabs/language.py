"""The two languages of the page: Gradio's I18n for labels of its components, HTML with both texts elsewhere.

Gradio detects the browser's language. It knows zh-CN and zh-TW, but falls back from zh to English. Translations are
therefore given for all three, and page.js selects zh-CN for every Chinese language tag.
"""

from typing import Any

import gradio as gr

from charts.text import LANGUAGES, Language, Text
from lab.settings import SettingError

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


def language_of(value: object) -> Language:
    """The language for a value of `data-spoken`, which page.js sets. Raises SettingError."""
    if value == "zh-CN":
        return "zh"
    if value not in LANGUAGES:
        raise SettingError("language", "en or zh-CN", value)
    return value


# JavaScript that replaces the first input of an event with the page's language.
SEND_LANGUAGE = "(language, ...values) => [document.documentElement.dataset.spoken, ...values]"
