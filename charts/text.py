"""Bilingual text. Everything shown to users is bilingual; machine-readable output is in English."""

import re
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


@dataclass(frozen=True)
class Text:
    """The same text in English and simplified Chinese. Raises ValueError if only one of them is empty."""

    en: str
    zh: str

    def __post_init__(self) -> None:
        if bool(self.en.strip()) != bool(self.zh.strip()):
            raise ValueError(f"a text must have both languages, not en={self.en!r} and zh={self.zh!r}")

    def format(self, *args: object, **kwargs: object) -> "Text":
        """Apply str.format in each language. Arguments of type Text are inserted in the same language."""
        made = {}
        for language in LANGUAGES:
            values = [said(value, language) if isinstance(value, Text) else value for value in args]
            named = {k: said(value, language) if isinstance(value, Text) else value for k, value in kwargs.items()}
            made[language] = getattr(self, language).format(*values, **named)
        return Text(**made)


Words = Text | str  # a plain string is the same in both: a number, a torch name, code


def said(words: Words, language: Language) -> str:
    """Text in one language."""
    if isinstance(words, str):
        return words
    return words.en if language == "en" else words.zh


def both(words: Words) -> dict[Language, str]:
    """Text by language, serializable as JSON."""
    return {language: said(words, language) for language in LANGUAGES}


# Invisible although str.isprintable() is true: default ignorable code points and blank letters.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_SPACES = re.compile("(?<= ) +|^ +| +$")  # leading, trailing and repeated spaces could push text out of view


def visible(text: str) -> str:
    """Untrusted text on one line, with control and invisible characters escaped, such as \\x1b.

    A file name, a metadata key or an error response may contain escape sequences, line breaks, bidirectional
    controls and invisible characters (Unicode Technical Report 36, "Unicode Security Considerations").
    """
    return _SPACES.sub(_escaped, "".join(each if _is_visible(each) else _escape(each) for each in text))


def _is_visible(character: str) -> bool:
    return character.isprintable() and not _INVISIBLE.match(character)


def _escape(character: str) -> str:
    return "\\x20" if character == " " else ascii(character)[1:-1]


def _escaped(found: re.Match[str]) -> str:
    return "".join(map(_escape, found[0]))


def joined(parts: "list[Words]", separator: Words) -> Text:
    """Parts joined by the separator, in each language."""
    return Text(*(said(separator, language).join(said(part, language) for part in parts) for language in LANGUAGES))
