"""What a client says that it reads, it gets, and nothing else."""

import gzip

import httpx
import pytest

from server.content_coding import best_coding
from tests.test_request_filter import Counting, get

CASES = {
    None: "",
    "": "",
    "gzip": "gzip",
    "GZIP": "gzip",
    "x-gzip": "gzip",
    "gzip, deflate, br": "gzip",
    "gzip;q=0": "",
    "gzip;q=0.0": "",
    "gzip;q=0.000, br": "",
    "gzip ; q=0": "",
    "GZip;Q=0": "",
    "gzip;q=0.001": "gzip",
    "deflate,gzip;q=1.0,*;q=0.5": "gzip",
    "gzip;q=0, gzip": "",
    "*": "gzip",
    "*;q=0": None,
    "*;q=0, identity": "",
    "*;q=0, gzip": "gzip",
    "gzip;q=0, *": "",
    "identity": "",
    "identity;q=0": None,
    "identity;q=0, gzip": "gzip",
    "identity;q=0, gzip;q=0": None,
    "identity;q=0, *": "gzip",
    "identity, gzip;q=0.5": "",
    "identity;q=0.5, gzip": "gzip",
    "gzip;q=0.2, *;q=0.5": "",
    "gzipped, not-gzip": "",
    "gzip;q=": "",
    "gzip;q=much": "",
    "gzip;q=1.5": "",
    "gzip;q=-1": "",
    "gzip;q=nan": "",
    "gzip;q=0.0001": "",
    "gzip;q =1": "",
    "gzip;q= 1": "",
    "gzip;level=9;q=0": "",
    "gzip;level=9": "gzip",
    ",,gzip,": "gzip",
    "gzip/br": "",
    '"gzip"': "",
}


@pytest.mark.parametrize(("accepted", "wanted"), CASES.items(), ids=map(repr, CASES))
def test_a_coding_is_used_as_the_client_weighs_it(accepted: str | None, wanted: str | None) -> None:
    assert best_coding(accepted, ["gzip"]) == wanted


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [("gzip, br", "br"), ("br;q=0, gzip", "gzip"), ("br;q=0.5, gzip", "gzip"), ("gzip;q=0, br;q=0", ""), ("*", "br")],
)
def test_of_several_codings_the_preferred_one_is_used(accepted: str, wanted: str) -> None:
    assert best_coding(accepted, ["br", "gzip"]) == wanted


@pytest.mark.parametrize("accepted", [each for each in CASES if each is not None])
def test_an_answer_that_is_kept_comes_as_the_client_weighs_it(accepted: str) -> None:
    answer = get(Counting(etag='"1"').app, "/assets/index.js", **{"accept-encoding": accepted})
    assert answer.headers["vary"] == "Accept-Encoding"
    wanted = CASES[accepted]
    assert answer.status_code == (406 if wanted is None else 200)
    assert answer.headers.get("content-encoding", "") == (wanted or "")
    if wanted is not None:  # a coding's bytes are not the file's, so that the tag is a weak one
        assert answer.headers["etag"] == ('W/"1"' if wanted else '"1"')


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"if-none-match": '"1"'}, 304),
        ({"if-none-match": 'W/"1"'}, 304),
        ({"if-none-match": '"0", W/"1" , "2"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"2"'}, 200),
        ({"if-none-match": "1"}, 200),
        ({"if-none-match": '"2"', "if-modified-since": "Wed, 01 Jan 2025 00:00:00 GMT"}, 200),
        ({"if-modified-since": "Wed, 01 Jan 2025 00:00:00 GMT"}, 304),
        ({"if-modified-since": "Sun, 01 Jan 2023 00:00:00 GMT"}, 200),
        ({"if-modified-since": "yesterday"}, 200),
    ],
)
@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_what_a_client_has_is_not_sent_again(accepted: str, asked: dict[str, str], status: int) -> None:
    counting = Counting(**{"etag": '"1"', "last-modified": "Mon, 01 Jan 2024 00:00:00 GMT"})
    answer = get(counting.app, "/assets/index.js", **{"accept-encoding": accepted, **asked})
    assert answer.status_code == status
    assert answer.headers["vary"] == "Accept-Encoding"
    assert (answer.content == b"") == (status == 304)


def test_what_does_not_shrink_is_zipped_for_those_who_refuse_it_as_it_is() -> None:
    counting = Counting(**{"content-type": "font/woff2"})
    plain = get(counting.app, "/static/font.woff2", **{"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    zipped = get(counting.app, "/static/font.woff2", **{"accept-encoding": "gzip, identity;q=0"})
    assert zipped.headers["content-encoding"] == "gzip"


def test_a_head_tells_what_a_get_would_send(app_url: str) -> None:
    for accepted in ("gzip", "identity"):
        headers = {"accept-encoding": accepted}
        head, whole = httpx.head(app_url, headers=headers), httpx.get(app_url, headers=headers)
        assert head.headers["content-length"] == whole.headers["content-length"]
        assert head.headers.get("content-encoding") == whole.headers.get("content-encoding")
        assert head.content == b""


def test_a_part_or_a_check_of_a_script_is_answered_without_a_coding(app_url: str) -> None:
    address = f"{app_url}bokeh.min.js"
    whole = httpx.get(address, headers={"accept-encoding": "gzip"})
    part = httpx.get(address, headers={"accept-encoding": "br, gzip", "range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, whole.content[:10])
    assert "content-encoding" not in part.headers
    with httpx.stream("GET", address, headers={"accept-encoding": "gzip"}) as answer:
        assert gzip.decompress(b"".join(answer.iter_raw())) == whole.content
