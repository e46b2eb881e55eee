"""Where the server listens: every address of GRADIO_SERVER_NAME, and what is said of one where it cannot."""

import ipaddress
import socket

import httpx
import pytest

from server import client_address
from server import sockets as listening
from tests.client import app


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_server_at_every_address_answers_at_both_kinds() -> None:
    with app(GRADIO_SERVER_NAME="::", LIVE_NETS_WORKERS="0") as (url, _, log):
        port = httpx.URL(url).port
        for host in ("[::1]", "127.0.0.1"):
            assert httpx.get(f"http://{host}:{port}/gradio_api/info").status_code == 200
        assert f"Running on http://[::]:{port}/" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["::1", "[::1]", "127.0.0.1", "localhost", "::ffff:127.0.0.1", "", " ::1 "])
def test_a_name_of_this_machine_is_listened_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if ":" in name and "127" not in name and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    monkeypatch.setitem(listening._settings, "GRADIO_SERVER_NAME", name.strip())
    monkeypatch.setattr(listening, "FIRST_PORT", 47860)
    host, port, sockets = listening.open_sockets()
    for each in sockets:
        with each, socket.create_connection(each.getsockname()[:2]):
            assert each.getsockname()[1] == port
            assert ipaddress.ip_address(each.getsockname()[0]).is_loopback
    assert host.startswith("[") == (":" in name)


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("GRADIO_SERVER_NAME", "nope.invalid", "not 'nope.invalid': the name does not resolve."),
        ("GRADIO_SERVER_NAME", "a" * 70, "the name does not resolve."),
        ("GRADIO_SERVER_NAME", "[::1", "not '[::1': the name does not resolve."),
        ("GRADIO_SERVER_NAME", "203.0.113.7", "not '203.0.113.7': this machine does not have that address."),
        ("PORT", "x", "PORT must be a whole number from 1 to 65535, not 'x'."),
        ("PORT", "0", "PORT must be a whole number from 1 to 65535, not '0'."),
        ("PORT", "65536", "PORT must be a whole number from 1 to 65535, not '65536'."),
        ("PORT", "٧٨٦٠", "PORT must be a whole number from 1 to 65535, not '٧٨٦٠'."),
    ],
)
def test_where_it_cannot_listen_it_says_so(
    setting: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, value)
    monkeypatch.setitem(listening._settings, setting, value)
    with pytest.raises(SystemExit) as ended:
        listening.open_sockets()
    assert str(ended.value.code).startswith(f"{setting} must be ")
    assert str(ended.value.code).endswith(told)


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        with pytest.raises(SystemExit, match=rf"^Port {taken.getsockname()[1]} is in use at 127\.0\.0\.1: stop the "):
            listening.open_sockets()


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "a.localhost", "::"]
)
def test_a_name_of_ones_own_machine_is_known(host: str) -> None:
    assert client_address.is_loopback(host)
    assert not client_address.is_loopback(f"{host}.evil.example")


def test_an_address_of_ipv6_counts_by_its_network() -> None:
    one, two, other = "2001:db8:1:2::3", "2001:db8:1:2:ffff::4", "2001:db8:1:3::3"
    assert client_address.canonical(one) == client_address.canonical(two) != client_address.canonical(other)
    assert client_address.canonical("::ffff:192.0.2.1") == client_address.canonical("192.0.2.1")
