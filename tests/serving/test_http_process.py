"""A server's process over the stand-in service: how it drains, what it logs, what it frees."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serving.processes import Server, started

ASK = {"inputs": "the apple", "adapter": "spam"}


@pytest.fixture(name="slow", scope="module")
def start_slow() -> Iterator[Server]:
    """A server that takes a second for each answer."""
    with started("-m", "tests.serving.fake_server", "1.0") as server:
        yield server


def address(server: Server) -> tuple[str, int]:
    """Host and port."""
    url = httpx.URL(server.url)
    assert url.port is not None
    return url.host, url.port


def wait_for(what: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def is_refused(server: Server) -> bool:
    """Whether nobody listens any more."""
    try:
        socket.create_connection(address(server), timeout=3).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_accepted_requests_be_answered_and_refuses_others() -> None:
    with started("-m", "tests.serving.fake_server", "3.0") as server, ThreadPoolExecutor(9) as threads:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            asked = [threads.submit(client.post, "/predict", json=ASK) for _ in range(8)]
            wait_for(lambda: "under_way 9.0" in client.get("/metrics").text)
            stopping = threads.submit(server.stop)
            wait_for(lambda: is_refused(server))
            assert not any(answer.done() for answer in asked)
            assert [answer.result().status_code for answer in asked] == [200] * 8
            assert stopping.result() in (0, -signal.SIGTERM)
        lines = [line for line in server.lines() if line.get("path") == "/predict"]
        assert [line["status"] for line in lines] == [200] * 8


def test_a_client_that_goes_away_frees_its_place(slow: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{slow.url}/predict", json=ASK, timeout=0.3)
    wait_for(lambda: any(line.get("status") == 499 for line in slow.lines()))
    assert "softcue_requests_under_way 1.0" in httpx.get(f"{slow.url}/metrics").text  # this one


def test_a_body_that_never_ends_holds_up_nobody(slow: Server) -> None:
    with socket.create_connection(address(slow)) as silent:
        silent.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert httpx.get(f"{slow.url}/health", timeout=5).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00" * 50,
        b"GET /%zz%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=repr,
)
def test_what_is_no_http_harms_nothing(slow: Server, data: bytes) -> None:
    with socket.create_connection(address(slow), timeout=3) as wire:
        wire.sendall(data)
        wire.shutdown(socket.SHUT_WR)
        answer = wire.recv(4_096)
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert httpx.get(f"{slow.url}/health", timeout=5).status_code == 200


def test_a_large_body_is_told_that_it_is_too_large(slow: Server) -> None:
    for size in (2_000_001, 5_000_000):
        answer = httpx.post(f"{slow.url}/predict", content=b" " * size, timeout=20)
        assert (answer.status_code, answer.json()["error_type"]) == (413, "Validation")


def test_many_connections_are_served_at_once(slow: Server) -> None:
    began = time.monotonic()
    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.post(f"{slow.url}/predict", json=ASK, timeout=30).status_code)

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 32
    assert time.monotonic() - began < 20  # one after the other would be 32 at least


def test_headers_without_end_are_cut_off(slow: Server) -> None:
    with socket.create_connection(address(slow), timeout=10) as wire:
        wire.sendall(b"GET /health HTTP/1.1\r\nX-Long: ")
        with pytest.raises(ConnectionError):  # reset, or a broken pipe
            wire.sendall(b"x" * 64_000_000)
    with httpx.Client(base_url=slow.url) as client:  # one connection, which is kept
        assert [client.get("/health").status_code for _ in range(3)] == [200] * 3
