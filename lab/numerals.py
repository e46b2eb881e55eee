"""Parse typed numbers with the digits and separators of any locale, keyboard or input method.

Ambiguous text is rejected, never guessed. `1,000` is a thousand in some locales and one in others, so it is
rejected; `0,5`, `1,000.5` and `1 000 000` are unambiguous. The separators are those of
https://cldr.unicode.org/translation/number-currency-formats/number-symbols.
"""

import re
import unicodedata
from decimal import Decimal

MAX_LENGTH = 100  # characters; also bounds the matching time

# Invisible format characters: soft hyphen, zero-width spaces and joiners, bidirectional marks and isolates. The
# overrides U+202D and U+202E are excluded because they reorder the displayed digits.
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202c\u2060\u2066-\u2069\ufeff]")

_EQUIVALENTS = {
    "-": "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d",  # hyphens, en dash, minus
    "+": "\ufe62\uff0b",
    ".": "\u066b\u3002\ufe52\uff0e\uff61",  # Arabic decimal separator, ideographic and full-width full stops
    ",": "\u060c\ufe50\uff0c",
    "'": "\u066c\u2018\u2019\u02bc\uff07",  # Arabic thousands separator, apostrophes
    " ": "\u00a0\u2007\u2008\u2009\u202f\u3000",
    "_": "\uff3f",
    "^": "\uff3e",
    "*": "\u00d7\u2715\u22c5\ufe61\uff0a",  # times
    "e": "E\uff25\uff45",
    "[": "\uff3b\u3010",
    "]": "\uff3d\u3011",
}
_TO_ASCII = {ord(other): plain for plain, others in _EQUIVALENTS.items() for other in others}
_SUPERSCRIPTS = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_POWER_OF_TEN = re.compile("10([⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)$")

_SIMPLE = r"(?P<simple>[0-9]+[.,]?[0-9]*|[.,][0-9]+)"
_GROUPED = r"(?P<grouped>[1-9][0-9]{0,2}(?P<group>[ '_.,])[0-9]{3}(?:(?P=group)[0-9]{3})*(?:(?!(?P=group))[.,][0-9]*)?)"
_POWER = r"(?:e(?P<e>[+-]?[0-9]{1,6})| ?[*x] ?10(?:\^|\*\*)(?P<times>[+-]?[0-9]{1,6}))"
_NUMBER = re.compile(rf"(?P<sign>[+-]?)(?:(?:{_SIMPLE}|{_GROUPED}){_POWER}?|10(?:\^|\*\*)(?P<ten>[+-]?[0-9]{{1,6}}))")

# The separator is followed by as many digits as a group has, three or in China four, so it may be a decimal or a
# thousands separator. After a leading 0 it can only be a decimal separator.
_AMBIGUOUS = re.compile(r"[+-]?[1-9][0-9]{0,3}(?P<mark>[.,])(?:[0-9]{3}|[0-9]{4})(?![0-9])")


class NumeralError(ValueError):
    """Text that is not a number or that is `ambiguous`."""

    def __init__(self, ambiguous: bool = False) -> None:
        super().__init__("an ambiguous number" if ambiguous else "not a number")
        self.ambiguous = ambiguous


def plain(text: str) -> str:
    """Normalize digits, signs, separators and brackets to ASCII and remove invisible characters.

    Raises NumeralError for mixed scripts, because digits of different scripts can look alike but differ in value.
    """
    text = _INVISIBLE.sub("", text).translate(_TO_ASCII).strip()
    digits = {letter: unicodedata.decimal(letter) for letter in text if letter.isdecimal()}
    scripts = {ord(letter) - value for letter, value in digits.items()} - {ord("0"), ord("\uff10")}
    if len(scripts) > 1 or (scripts and any(letter.isascii() for letter in digits)):
        raise NumeralError
    return text.translate({ord(letter): str(value) for letter, value in digits.items()})


def read(text: str, whole: bool = False) -> Decimal:
    """Parse `text` to an exact number. Raises NumeralError.

    If `whole`, `1.000` is as ambiguous as `1,000`. Otherwise the point is the decimal separator, as in Python and on
    the page.
    """
    if len(text) > MAX_LENGTH:
        raise NumeralError
    text = _POWER_OF_TEN.sub(lambda match: f"10^{match[1].translate(_SUPERSCRIPTS)}", plain(text))
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise NumeralError
    either = _AMBIGUOUS.match(text)
    alone = either is not None and text[either.end() :][:1] not in (".", ",")  # 1,000.5 and 1,000,000 are unambiguous
    if either is not None and alone and (whole or either["mark"] == ","):
        raise NumeralError(ambiguous=True)
    if match["ten"]:
        return Decimal(f"{match['sign']}1e{match['ten']}")
    if match["grouped"] and not (alone and match["group"] == "."):
        number = match["grouped"].replace(match["group"], "").replace(",", ".")
    else:
        number = (match["simple"] or match["grouped"]).replace(",", ".")
    power = match["e"] or match["times"]
    return Decimal(f"{match['sign']}{number}" + (f"e{power}" if power else ""))
