"""Servers as processes of their own: started, asked and stopped by tests."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A server's process, the address that it told, and what it logged."""

    def __init__(self, words: list[str], more: dict[str, str]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        assert self.process.stdout is not None
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.line = self.process.stdout.readline()
        found = re.search(r"http://\S+", self.line)
        if found is None:
            self.process.wait(30)
            raise AssertionError(f"{self.line!r}, {''.join(self.errors)}")
        self.url = found[0]

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self._reader.join(10)
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()

    def lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [json.loads(line) for line in self.errors if line.startswith("{")]


@contextlib.contextmanager
def started(*words: str | Path, **environment: str) -> Iterator[Server]:
    """Start Python with these words, and stop it in the end."""
    server = Server([str(word) for word in words], environment)
    try:
        yield server
    finally:
        server.stop()
