"""Replicas behind Ray Serve: two of them answer, and the loss of one is made good."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from softcue.errors import RequestError
from tests.answering.test_predict import random_adapter
from tests.tiny_base import base_folder, tiny_base

pytest.importorskip("ray.serve", reason="ray[serve] is not installed")

PATIENCE = 120.0  # seconds


def ask(port: int) -> tuple[int, Any]:
    """The status and the answer of one request."""
    body = json.dumps({"inputs": "an owl", "adapter": "spam"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.status, json.loads(reply.read())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[int]:
    """The port of a server with two replicas."""
    random_adapter(tiny_base(), "pasta").save(tmp_path / "adapters" / "spam")
    with socket.socket() as spare:
        spare.bind(("127.0.0.1", 0))
        port = spare.getsockname()[1]
    command = [sys.executable, "-m", "softcue", "serve", str(tmp_path / "adapters"), "--port", str(port)]
    command += ["--ray", "local", "--replicas", "2", "--backbone", str(base_folder())]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    try:
        assert "with 2 replicas" in process.stdout.readline()
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


def replicas_of(port: int) -> list[int]:
    """The process numbers of the replicas of this test's cluster."""
    found = subprocess.run(
        ["pgrep", "-f", "ServeReplica:softcue"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


@pytest.mark.slow
def test_two_replicas_answer_and_one_that_is_killed_is_replaced(served: int) -> None:
    expected = ask(served)
    assert expected[0] == 200
    first = replicas_of(served)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    answered, end = 0, time.monotonic() + PATIENCE
    while time.monotonic() < end and not (answered > 20 and len(set(replicas_of(served)) - {first[0]}) == 2):
        try:
            assert ask(served) == expected
            answered += 1
        except OSError:  # what the killed replica had at hand
            time.sleep(0.1)
    assert answered > 20
    assert len(set(replicas_of(served)) - {first[0]}) == 2


@pytest.mark.parametrize("text", ["0", "3-2", "two", "1-", "-1", "1-2-3", ""])
def test_numbers_of_replicas_that_cannot_be_are_refused(text: str) -> None:
    from softcue.serving.replicas import parse_replicas

    with pytest.raises(RequestError, match="expected a number, or two as in 1-4"):
        parse_replicas(text)


def test_a_number_of_replicas_is_the_least_and_the_most() -> None:
    from softcue.serving.replicas import parse_replicas

    assert parse_replicas("2") == (2, 2)
    assert parse_replicas("1-4") == (1, 4)
