"""Eight tasks on one text: layers that no adapter touches are computed once, against eight rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks import ours
from benchmarks.common import Options, Results, alternate, read_options
from softcue.answering.evaluation import pack_items
from softcue.batch import Batch

TASKS = 8
TEXTS = 8  # of one timing
TOP, HALF = 4, 3  # of MiniLM's six layers, the first that is touched
# name -> method and settings
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "probe": ("probe", {}),
    "stp from 4": ("stp", {"plan": "explicit", "cls_layers": (4, 5), "sep_layers": (4, 5)}),
    "pasta from 4": ("pasta", {"first_layer": TOP}),
    "pasta": ("pasta", {}),
    "stp": ("stp", {}),
    "pasta from 3": ("pasta", {"first_layer": HALF}),
    "lora from 4": ("lora", {"first_layer": TOP}),
    "spt from 4": ("spt", {"first_layer": TOP}),
    "apt from 4": ("apt", {"first_layer": TOP}),
    "ptuning from 4": ("ptuning", {"first_layer": TOP}),
    "lora": ("lora", {}),
}


def measure(case: str, options: Options) -> list[dict[str, Any]]:
    """One text for eight adapters: with shared layers, without, and the eight one by one."""
    work, base = ours.workload("sst2", TEXTS), ours.backbone("minilm", options.device)
    method, settings = CASES[case]
    model = ours.serving(base, method, work, "cls", TASKS, **settings)
    seats = list(range(TASKS))
    batches = [pack_items(model, [item] * TASKS, seats) for item in work.items]
    apart = [replace(batch, texts=tuple(range(TASKS))) for batch in batches]
    single = [pack_items(model, [item], [seat]) for item in work.items for seat in seats]

    def forwards(given: Sequence[Batch]) -> Callable[[], None]:
        @torch.inference_mode()
        def forward() -> None:
            for batch in given:
                model(batch)

        return forward

    times = alternate(
        {"shared": forwards(batches), "apart": forwards(apart), "one by one": forwards(single)}, options
    )
    return [
        {
            "case": case,
            "shares layers": model.mixture.first_touched(0),
            "tokens": sum(item.rows for item in work.items) / TEXTS,
            "shared ms": 1000 * times["shared"].median / TEXTS,
            "eight rows ms": 1000 * times["apart"].median / TEXTS,
            "one by one ms": 1000 * times["one by one"].median / TEXTS,
            "of eight rows": times["shared"].over(times["apart"]),
            "of one by one": times["shared"].over(times["one by one"]),
            "spread": max(times["shared"].spread, times["apart"].spread),
        }
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case that the file lacks."""
    options = read_options(__doc__ or "", arguments)
    results = Results("fan_out", options)
    for case in list(CASES)[:3] if options.quick else CASES:
        results.add({"case": case}, lambda case=case: measure(case, options))
    results.finish()


if __name__ == "__main__":
    main()
