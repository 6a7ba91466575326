"""Many tasks in one batch: softcue's methods against its own bare encoder on the same rows, and
PEFT's two ways of doing it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from peft import LoraConfig

from benchmarks import ours, peers
from benchmarks.common import Options, Results, alternate, read_options
from softcue.answering.evaluation import pack_items
from softcue.base import Base
from softcue.protocol import Silent

METHODS = ("pasta", "stp", "spt", "apt", "ptuning", "prompt", "gpc", "lora")
COUNTS = (1, 8, 32, 64, 128)
FORWARDS = 5  # in one timing: a single one of 20 ms says little on a shared machine


def softcue_sides(base: Base, work: ours.Workload, method: str, tasks: int) -> dict[str, Callable[[], Any]]:
    """A forward of one row of text per task (32 at least), and the bare encoder on the same packed batch."""
    model = ours.serving(base, method, work, "mean", tasks)
    items = work.items[: max(tasks, ours.BATCH)]
    batch = pack_items(model, items, [i % tasks for i in range(len(items))])

    @torch.inference_mode()
    def mixed() -> None:
        for _ in range(FORWARDS):
            model(batch)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(FORWARDS):
            model.encoder(batch, Silent())

    return {f"{method} {tasks}": mixed, f"bare {method} {tasks}": bare}


def peft_sides(device: str, work: ours.Workload, tasks: int) -> dict[str, Callable[[], Any]]:
    """PEFT with one LoRA per task: adapter_names in one batch, or a switch between batches of one task."""
    model = peers.open_peer("minilm", "lora", work, device)
    names = ["default", *(f"task{i}" for i in range(1, tasks))]
    config = LoraConfig(
        task_type="SEQ_CLS", r=peers.RANK, lora_alpha=2 * peers.RANK, target_modules=["query", "value"]
    )
    for name in names[1:]:
        model.add_adapter(name, config)
    model.to(device).eval()
    items = work.items[: max(tasks, ours.BATCH)]
    whole = peers.there(peers.collate(items, targets=False), device)
    parts = [peers.there(peers.collate(items[i::tasks], targets=False), device) for i in range(tasks)]

    @torch.inference_mode()
    def together() -> Any:
        return model(**whole, adapter_names=[names[i % tasks] for i in range(len(items))])

    @torch.inference_mode()
    def switched() -> None:
        for name, part in zip(names, parts, strict=True):
            model.set_adapter(name)
            model(**part)

    return {f"PEFT adapter_names {tasks}": together, f"PEFT switching {tasks}": switched}


def measure(method: str, counts: Sequence[int], options: Options) -> list[dict[str, Any]]:
    """One method with every number of tasks beside the bare encoder; LoRA beside PEFT's two ways too."""
    work, base = ours.workload("sst2", max(COUNTS)), ours.backbone("minilm", options.device)
    sides: dict[str, Callable[[], Any]] = {}
    for tasks in counts:
        sides |= softcue_sides(base, work, method, tasks)
        sides |= peft_sides(options.device, work, tasks) if method == "lora" else {}
    times = alternate(sides, options)
    rows = []
    for tasks in counts:
        taken, bare = times[f"{method} {tasks}"], times[f"bare {method} {tasks}"]
        row = {"side": method, "tasks": tasks, "ms": 1e3 * taken.median / FORWARDS, "spread": taken.spread}
        rows.append({**row, "x bare encoder": taken.over(bare)})
    for way in ("adapter_names", "switching") if method == "lora" else ():
        for tasks in counts:
            taken = times[f"PEFT {way} {tasks}"]
            ratio = FORWARDS * taken.over(times[f"lora {tasks}"])
            rows.append(
                {
                    "side": f"PEFT {way}",
                    "tasks": tasks,
                    "ms": 1e3 * taken.median,
                    "spread": taken.spread,
                    "x softcue LoRA": ratio,
                }
            )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it."""
    options = read_options(__doc__, arguments)
    results = Results("mixed", options)
    for method in METHODS:
        counts = (1, 32) if options.quick else COUNTS
        results.add({"side": method}, partial(measure, method, counts, options))
    results.finish()


if __name__ == "__main__":
    main()
