"""Logs: one JSON object a line on standard error, without texts and without secrets."""

import json
import logging
import time
from functools import lru_cache
from typing import Any

LOGGER = logging.getLogger("softcue.serving")


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: time, level, message, and the fields it came with."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": f"{_stamp(int(record.created))}.{int(record.created % 1 * 1000):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


@lru_cache(2)
def _stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def start_logging() -> None:
    """Let the server's and uvicorn's records go to standard error as JSON."""
    # what no line shows need not be looked up for each; so Python's documentation advises
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, level in (("softcue.serving", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def log_fields(level: int, message: str, **fields: Any) -> None:
    """Log a message with fields of its own."""
    LOGGER.log(level, message, extra={"fields": fields})
