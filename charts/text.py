"""Words in the page's two languages. Whatever is shown to people is made of these; programs read English."""

import re
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


@dataclass(frozen=True)
class Text:
    """The same words in English and in simplified Chinese. Raises ValueError where just one of them is missing."""

    en: str
    zh: str

    def __post_init__(self) -> None:
        if bool(self.en.strip()) != bool(self.zh.strip()):
            raise ValueError(f"a text must have both languages, not en={self.en!r} and zh={self.zh!r}")

    def format(self, *args: object, **kwargs: object) -> "Text":
        """str.format in each language; a Text among the arguments is put in as it reads there."""
        made = {}
        for language in LANGUAGES:
            values = [said(value, language) if isinstance(value, Text) else value for value in args]
            named = {k: said(value, language) if isinstance(value, Text) else value for k, value in kwargs.items()}
            made[language] = getattr(self, language).format(*values, **named)
        return Text(**made)


Words = Text | str  # a plain string reads the same in both: a number, a name from torch, code


def said(words: Words, language: Language) -> str:
    """The words in one language."""
    if isinstance(words, str):
        return words
    return words.en if language == "en" else words.zh


def both(words: Words) -> dict[Language, str]:
    """The words by language, ready for JSON."""
    return {language: said(words, language) for language in LANGUAGES}


# Printable for Python, and yet nothing is seen of them: default ignorable code points, and blanks that are letters.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_SPACES = re.compile("(?<= ) +|^ +| +$")  # they would push what follows into the next line


def visible(text: str) -> str:
    """Text from elsewhere as part of one line of ours: what is not seen as itself becomes its escape, such as \\x1b.

    A file's name, a key in its metadata or a server's refusal may hold escape sequences, line breaks, marks that turn
    the direction of writing, and characters that are not seen (Unicode Technical Report 36, "Unicode Security
    Considerations").
    """
    return _SPACES.sub(_escaped, "".join(each if _is_seen(each) else _escape(each) for each in text))


def _is_seen(character: str) -> bool:
    return character.isprintable() and not _UNSEEN.match(character)


def _escape(character: str) -> str:
    return "\\x20" if character == " " else ascii(character)[1:-1]


def _escaped(found: re.Match[str]) -> str:
    return "".join(map(_escape, found[0]))


def joined(parts: "list[Words]", separator: Words) -> Text:
    """The parts in a row."""
    return Text(*(said(separator, language).join(said(part, language) for part in parts) for language in LANGUAGES))
