"""The plan: which layers add a vector to which special tokens, and the attention that it is chosen by."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Unpack

from softcue.adapter import Adapter
from softcue.encoder.attention_mass import attention_mass
from softcue.files import JsonRecord
from softcue.inspection.subject import Grid, HowOpened, Shown, Subject, grid, open_subject
from softcue.readers import Data


@dataclass(frozen=True)
class PlanView(JsonRecord):
    """A plan of layers and special tokens."""

    shown: Shown
    slots: tuple[str, ...]
    plan: tuple[
        tuple[int, ...], ...
    ]  # (L, S): index of the vector that a layer adds to a special token; -1: none
    mass: Grid  # (L, S): mean attention of the bare encoder on each special token
    chosen_by: str  # how the layers were chosen, from the adapter's settings

    def prompted(self, slot: int) -> list[int]:
        """Return the layers that add a vector to a special token."""
        return [layer for layer, row in enumerate(self.plan) if row[slot] >= 0]

    def lines(self) -> list[str]:
        """Return the findings as lines of text."""
        told = [f"{name} in {self.prompted(slot)}" for slot, name in enumerate(self.slots)]
        most = [column.index(max(column)) for column in zip(*self.mass, strict=True)]
        peaks = [f"{name} in layer {layer}" for name, layer in zip(self.slots, most, strict=True)]
        return [
            f"{self.shown.title}: layers prompt {', '.join(told)} (chosen: {self.chosen_by})",
            f"the bare encoder attends the most to {', '.join(peaks)}",
        ]


def inspect_plan(
    adapter: str | Path | Adapter, data: str | Path | Data, **how: Unpack[HowOpened]
) -> PlanView:
    """Read an adapter's plan, and measure the attention that such a plan is chosen by.

    A plan is measured on the first rows of train, so these are used unless another split is given. Other
    arguments: as for inspect_attention. Raises SoftcueError; RequestError if the adapter has no plan.
    """
    chosen: HowOpened = {**how, "split": how.get("split") or "train"}
    return plan_view(open_subject(adapter, data, **chosen, draw=False))


def plan_view(subject: Subject) -> PlanView:
    """Measure what `inspect_plan` returns."""
    told: dict[int, tuple[int, ...]] = {}
    first = next(subject.batches())
    subject.look(
        first,
        None,
        lambda name, layer, values: told.update({layer: tuple(values.tolist())}) if name == "plan" else None,
    )
    if not told:
        raise subject.refuse("plan of layers", "stp")
    mass = attention_mass(subject.encoder, subject.examples, len(subject.slots))
    return PlanView(
        shown=subject.shown,
        slots=subject.slots,
        plan=tuple(told[layer] for layer in sorted(told)),
        mass=grid(mass),
        chosen_by=str(asdict(subject.adapter.config).get("plan", "")),
    )
