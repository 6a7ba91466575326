"""A load of HTTP requests: some connections that each send the next request when the last is answered, or
requests at a fixed rate.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, takewhile
from typing import Any

import numpy


@dataclass(frozen=True)
class Request:
    """One request, as bytes."""

    data: bytes


@dataclass
class Tally:
    """What came back: seconds of each answer by status."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    lost: int = 0  # connections that ended without an answer
    elapsed: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def answered(self) -> int:
        """How many requests were answered with 200."""
        return len(self.seconds.get(200, []))

    @property
    def rate(self) -> float:
        """Answers with 200 in a second."""
        return self.answered / self.elapsed

    def percentile(self, share: float, status: int = 200) -> float:
        """The seconds within which this share of the answers came."""
        return float(numpy.percentile(self.seconds.get(status) or [float("nan")], share))


def request(path: str, body: Any, host: str = "127.0.0.1") -> Request:
    """A POST request with a JSON body."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return Request(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


async def closed_loop(port: int, requests: Sequence[Request], connections: int, seconds: float) -> Tally:
    """Send requests, in turn and from the start again, over connections that each wait for their answer.

    A connection that is told when to come again waits until then.
    """
    end = time.perf_counter() + seconds
    return await each_once(port, takewhile(lambda _: time.perf_counter() < end, cycle(requests)), connections)


async def each_once(port: int, requests: Iterable[Request], connections: int) -> Tally:
    """Send every request once, over connections as those of closed_loop."""
    tally, left, began = Tally(), iter(requests), time.perf_counter()

    async def work() -> None:
        line = await Line.open(port)
        for one in left:
            await line.ask(one, tally)
            await asyncio.sleep(line.retry_after)
        line.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    tally.elapsed = time.perf_counter() - began
    return tally


async def fixed_rate(port: int, requests: Sequence[Request], rate: float, seconds: float) -> Tally:
    """Send requests at a fixed rate, whether or not earlier ones are answered."""
    tally, idle, began = Tally(), list[Line](), time.perf_counter()

    async def one(number: int) -> None:
        line = idle.pop() if idle else await Line.open(port)
        await line.ask(requests[number % len(requests)], tally)
        idle.append(line)

    tasks = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    tally.elapsed = time.perf_counter() - began
    for line in idle:
        line.close()
    return tally


class Line:
    """One connection that is kept, and opened again where the server ended it."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port, self.reader, self.writer = port, reader, writer
        self.retry_after = 0.0  # seconds that the last answer asked to wait

    @staticmethod
    async def open(port: int) -> "Line":
        """Connect."""
        return Line(port, *await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, asked: Request, tally: Tally) -> bytes:
        """Send one request and count its answer; return the answer's body."""
        sent = time.perf_counter()
        try:
            self.writer.write(asked.data)
            head = await self.reader.readuntil(b"\r\n\r\n")
            body = await self.reader.readexactly(int(_header(head, b"content-length")))
        except (asyncio.IncompleteReadError, ConnectionError):
            tally.lost += 1
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            return b""
        tally.add(int(head[9:12]), time.perf_counter() - sent)
        self.retry_after = float(_header(head, b"retry-after") or 0)
        return body

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


def _header(head: bytes, name: bytes) -> bytes:
    """The value of a header, empty where there is none."""
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((value.strip() for key, _, value in lines if key == name), b"")
