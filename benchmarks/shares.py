"""Where the time of a training step goes: shares of matrix products, of other operators and of
what lies between operators.
"""

import time
from collections.abc import Callable, Sequence
from ctypes import CDLL
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

from torch.profiler import ProfilerActivity, profile

from benchmarks import ours
from benchmarks.common import Options, Results, read_options
from softcue.kernels import library

RUNS = (("sst2", ("pasta", "spt", "lora")), ("conll2003", ("pasta", "spt", "lora")), ("mrpc", ("pasta",)))
QUICK = (("sst2", ("pasta",)),)
REST, BETWEEN = "other operators", "between operators"
GROUPS = {  # share -> operators, by torch's names, and functions of softcue/kernels
    "products": (
        "mkldnn::_linear_pointwise",
        "aten::bmm",
        "aten::mm",
        "aten::addmm",
        "aten::baddbmm",
        "thin_forward",
        "thin_backward",
    ),
    "attention in C++": ("attention_forward", "attention_backward", "ahead_forward", "ahead_backward"),
    "norms and activations": (
        *("aten::native_layer_norm", "aten::native_layer_norm_backward", "aten::gelu", "aten::gelu_backward"),
        *("aten::_softmax", "aten::_softmax_backward_data", "norm_forward", "norm_backward", "gelu_forward"),
    ),
    "random numbers": ("aten::random_", "aten::ge_"),
    "copies and gathers": (
        *(
            "aten::copy_",
            "aten::index_select",
            "aten::cat",
            "aten::index_add",
            "aten::index_add_",
            "aten::index_copy",
        ),
        *("aten::index_copy_", "aten::gather", "aten::constant_pad_nd", "aten::fill_", "aten::zero_"),
    ),
    "sums and multiples": (
        "aten::add",
        "aten::add_",
        "aten::mul",
        "aten::mul_",
        "aten::addcmul",
        "aten::sum",
        "aten::sub",
        "aten::div",
    ),
}


class Timed:
    """The kernels of softcue/kernels, and how many seconds each has taken; torch's profiler
    does not see them.
    """

    def __init__(self, built: CDLL) -> None:
        self.built, self.seconds = built, dict[str, float]()

    def __getattr__(self, name: str) -> Callable[..., int]:
        kernel = getattr(self.built, name)

        def timed(*given: Any) -> int:
            began = time.perf_counter()
            failed: int = kernel(*given)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            return failed

        return timed


def measure(task: str, method: str, options: Options) -> list[dict[str, Any]]:
    """Medians of the shares of rounds, texts of similar length together; the profiler's own
    cost falls between operators.
    """
    work = ours.workload(task, 2 * ours.BATCH if options.quick else 8 * ours.BATCH)
    step, batches = ours.training(ours.backbone("minilm"), method, work), work.sorted
    step(batches)
    group_of = {name: group for group, names in GROUPS.items() for name in names}
    found: dict[str, list[float]] = {group: [] for group in (*GROUPS, REST, BETWEEN)}
    built = library()
    for _ in range(options.repeat):
        kernels = None if built is None else Timed(built)
        with (
            mock.patch("softcue.kernels.library", return_value=kernels),
            profile(activities=[ProfilerActivity.CPU]) as watched,
        ):
            began = time.perf_counter()
            step(batches)
            whole = time.perf_counter() - began
        events = {event.key: event.self_cpu_time_total * 1e-6 for event in watched.key_averages()}
        operators = {
            name: seconds for name, seconds in events.items() if name.startswith(("aten::", "mkldnn::"))
        }
        taken = dict.fromkeys(found, 0.0)
        for name, seconds in {**operators, **(kernels.seconds if kernels else {})}.items():
            taken[group_of.get(name, REST)] += seconds
        taken[BETWEEN] = whole - sum(taken.values())
        for group, seconds in taken.items():
            found[group].append(seconds / whole)
    return [{"task": task, "side": method, **{group: median(own) for group, own in found.items()}}]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments, devices=("cpu",))
    results = Results("shares", options)
    for task, methods in QUICK if options.quick else RUNS:
        for method in methods:
            results.add({"task": task, "side": method}, partial(measure, task, method, options))
    results.finish()


if __name__ == "__main__":
    main()
