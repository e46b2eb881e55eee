"""The page's two languages: labels of Gradio's components by its own I18n, all else as HTML that holds both.

Gradio finds the browser's language itself, but its fallbacks differ: zh-CN and zh-TW are known to it, zh alone is
not, and would end as English. So all three are supplied, and page.js asks for zh-CN whenever the language is a
Chinese one.
"""

from typing import Any

import gradio as gr

from charts.text import LANGUAGES, Language, Text
from lab.settings import SettingError

_keys: dict[Text, str] = {}


def label(text: Text) -> Any:
    """The text for a label, an info, a choice or a button's value of a component."""
    key = _keys.setdefault(text, f"live-nets-{len(_keys)}")
    return gr.I18n()(key)


def translations() -> gr.I18n:
    """All that `label` was asked for, to launch the page with once it is built."""
    english = {key: text.en for text, key in _keys.items()}
    chinese = {key: text.zh for text, key in _keys.items()}
    return gr.I18n(**{"en": english, "zh": chinese, "zh-CN": chinese, "zh-TW": chinese})


def language_of(value: object) -> Language:
    """The page's language, as page.js has it in `data-spoken`. Raises SettingError."""
    if value == "zh-CN":
        return "zh"
    if value not in LANGUAGES:
        raise SettingError("language", "en or zh-CN", value)
    return value


# What page.js puts in place of the first input of an event that has to know the language.
SEND_LANGUAGE = "(language, ...values) => [document.documentElement.dataset.spoken, ...values]"
