"""A Ray cluster, connected to for a while; what cannot be is one error, for sweeps and servers alike."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from softcue.errors import RequestError

LOCAL_CLUSTER = "local"  # instead of an address: a cluster of this machine alone, while the work lasts


@contextmanager
def ray_cluster(address: str, otherwise: str) -> Iterator[Any]:
    """Connect to a cluster, yield the module ray, and let go of the cluster.

    otherwise: what to do without Ray, for the message.

    Raises RequestError if Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise RequestError(f"ray is not installed; pip install 'softcue[ray]', or {otherwise}") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            None if address == LOCAL_CLUSTER else address,
            include_dashboard=False if address == LOCAL_CLUSTER else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RequestError(
            f"no Ray cluster at {address!r} ({str(error).splitlines()[0]}); expected host:port, auto, or "
            "local"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
