"""Content negotiation: the coding of a response, by the request's Accept-Encoding header.

https://www.rfc-editor.org/rfc/rfc9110#name-accept-encoding
"""

import re
from collections.abc import Sequence

IDENTITY = ""  # no coding

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def best_coding(accepted: str | None, offered: Sequence[str]) -> str | None:
    """The coding of `offered` with the highest weight in the header's value; the first of them if several have it.

    IDENTITY if the client accepts none of them or prefers no coding; None if it also refuses IDENTITY. Malformed parts
    of the header are ignored.
    """
    weights = _weights(accepted or "")
    rest = weights.get("*")
    identity = weights.get("identity", rest)
    best = max(offered, key=lambda coding: weights.get(coding, rest or 0.0), default=IDENTITY)
    weight = weights.get(best, rest or 0.0)
    if best and weight > 0 and (identity is None or weight >= identity):
        return best
    return None if identity == 0 else IDENTITY


def _weights(value: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in value.lower().split(","):
        coding, *parameters = (each.strip(" \t") for each in part.split(";"))
        weight = next((each.removeprefix("q=") for each in parameters if each.startswith("q=")), "1")
        malformed = any("=" not in each for each in parameters) or any(re.match(r"q\s", each) for each in parameters)
        if malformed or not _TOKEN.fullmatch(coding) or not _WEIGHT.fullmatch(weight):
            continue
        coding = "gzip" if coding == "x-gzip" else coding
        weights[coding] = min(weights.get(coding, 1.0), float(weight))  # the lowest of contradicting weights
    return weights
