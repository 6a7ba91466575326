"""Replicas: the same server several times behind Ray Serve, over one bank on storage that all of them see."""

import re
import signal
import threading
from collections.abc import Callable
from typing import Any

import torch

from softcue.errors import RequestError, short
from softcue.serving.access import Access
from softcue.serving.opening import ServerSettings, open_server, open_source_of
from softcue.studies.cluster import ray_cluster

RAY_NAME = "softcue"  # its name in Ray Serve
ONGOING = 64  # requests that a replica has at hand; beyond it the proxy asks another
SPARE = 5.0  # seconds beyond the deadline that a replica may take to end
HEALTH_SECONDS = 5.0  # between two looks at whether a replica lives


def parse_replicas(text: str) -> tuple[int, int]:
    """Return the least and the most replicas of "2" or "1-4". Raises RequestError."""
    found = re.fullmatch(r"([1-9][0-9]{0,2})(?:-([1-9][0-9]{0,2}))?", text)
    if not found or int(found[1]) > int(found[2] or found[1]):
        raise RequestError(f"--replicas is {short(text)}; expected a number, or two as in 1-4")
    return int(found[1]), int(found[2] or found[1])


def serve_replicas(
    settings: ServerSettings,
    access: Access,
    address: str,
    listen_on: tuple[str, int],
    replicas: tuple[int, int],
    ready: Callable[[str], None],
) -> None:
    """Serve on a Ray cluster until SIGTERM or SIGINT.

    address: of the cluster, or "local" for one of this machine alone. listen_on: host and port of the proxy.
    replicas: the least and the most; where they differ Ray follows the load. ready: called with the
    backbone's name once requests are answered.

    Raises RequestError where Ray is not installed or the cluster does not answer.
    """
    _, name = open_source_of(settings)  # what is wrong with the folder is told here, not in a replica's log
    with ray_cluster(address, "serve without --ray"):
        from ray import serve

        try:
            serve.start(http_options={"host": listen_on[0], "port": listen_on[1]})
            serve.run(_application(serve, settings, access, replicas), name=RAY_NAME, route_prefix="/")
            ready(name)
            _await_signal()
        finally:
            serve.shutdown()


def _application(serve: Any, settings: ServerSettings, access: Access, replicas: tuple[int, int]) -> Any:
    """Return the deployment: each replica opens the bank and the encoder for itself."""
    threads = torch.get_num_threads()

    def build() -> Any:
        torch.set_num_threads(threads)
        return open_server(settings, access).app

    least, most = replicas
    scale: dict[str, Any] = {"num_replicas": least}
    if least < most:
        scale = {
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": ONGOING // 2,
            }
        }
    deployment = serve.deployment(
        serve.ingress(build)(),
        name=RAY_NAME,
        max_ongoing_requests=ONGOING,
        max_queued_requests=settings.queue,
        graceful_shutdown_timeout_s=settings.deadline + SPARE,
        health_check_period_s=HEALTH_SECONDS,
        ray_actor_options={"num_cpus": threads} if settings.device == "cpu" else {"num_gpus": 1},
        **scale,
    )
    return deployment.bind()


def _await_signal() -> None:
    """Wait for SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
