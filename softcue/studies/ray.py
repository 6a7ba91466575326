"""Ray: groups of packed jobs as tasks of a cluster.

A task whose worker is lost runs again, and ends with the same numbers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from softcue.base import Base, open_base
from softcue.errors import RequestError
from softcue.plugins import load_plugin, loaded_files
from softcue.studies.cluster import ray_cluster
from softcue.studies.search import Runner
from softcue.studies.trials import Group, Result, Terms, device_of, run_group

RETRIES = 8  # of a group whose worker was lost
PATIENCE = 10.0  # seconds between two looks at whether the cluster still lives


@dataclass(frozen=True)
class Opening:
    """What a worker needs to open the same base as the driver."""

    name: str
    precision: str
    device: str
    fingerprint: str
    threads: int  # as many as the driver has, so that sums are formed in the same order
    plugins: tuple[str, ...]


@contextmanager
def on_ray(address: str, terms: Terms, base: Base) -> Iterator[tuple[Runner, int]]:
    """Yield a runner whose groups are Ray tasks, and how many of them run at the same time.

    Raises RequestError if Ray is not installed, no cluster answers, or none of its machines has room for a
    task.
    """
    with ray_cluster(address, "sweep without it") as ray:
        opening = _opening(base)
        width, needs = _room([node["Resources"] for node in ray.nodes() if node["Alive"]], opening)
        task = ray.remote(max_retries=RETRIES, **needs)(work)
        shared = ray.put(terms), ray.put(opening)

        def run(groups: Sequence[Group]) -> Iterator[tuple[int, Result]]:
            waiting = {task.remote(group, *shared): number for number, group in enumerate(groups)}
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=PATIENCE)
                if not done and not any(node["Alive"] for node in ray.nodes()):
                    raise RequestError(
                        "all machines of the Ray cluster are lost; what is finished is kept, the same "
                        "command goes on"
                    )
                for task_done in done:
                    yield waiting.pop(task_done), _get(ray, task_done)

        yield run, width


def work(group: Group, terms: Terms, opening: Opening) -> Result:
    """Open the base, once in each worker, and train a group."""
    torch.set_num_threads(opening.threads)
    for plugin in opening.plugins:
        load_plugin(plugin)
    base = _base(opening.name, opening.precision, opening.device)
    if base.fingerprint != opening.fingerprint:
        raise RequestError(
            f"a worker's {opening.name} is another backbone than the driver's; give all machines the same "
            "folder"
        )
    return run_group(group, terms, base)


@lru_cache(maxsize=1)
def _base(name: str, precision: str, device: str) -> Base:
    return open_base(name, precision, device)


def _opening(base: Base) -> Opening:
    return Opening(
        base.backbone.name,
        base.precision,
        device_of(base),
        base.fingerprint,
        torch.get_num_threads(),
        loaded_files(),
    )


def _room(nodes: Sequence[dict[str, float]], opening: Opening) -> tuple[int, dict[str, Any]]:
    """Return how many tasks the machines have room for, and the resources that each task asks for."""
    if opening.device == "cuda":
        what, count, needs = "GPU", 1, {"num_gpus": 1}
    else:
        what, count, needs = "CPU", opening.threads, {"num_cpus": opening.threads}
    width = sum(int(node.get(what, 0) // count) for node in nodes)
    if width < 1:
        raise RequestError(
            f"no machine of the cluster has {count} {what}, as a task needs; start larger ones, or fewer "
            "threads (OMP_NUM_THREADS)"
        )
    return width, needs


def _get(ray: Any, done: Any) -> Result:
    try:
        result: Result = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else error from None
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"a group's worker was lost {RETRIES + 1} times ({reason}); what is finished is kept, the same "
            "command goes on"
        ) from error
    return result
