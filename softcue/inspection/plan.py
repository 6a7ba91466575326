"""Which layers prompt which special tokens, beside the attention that such a plan is chosen by."""

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
    plan: tuple[tuple[int, ...], ...]  # (L, S): the vector that a layer adds to a special token, -1: none
    mass: Grid  # (L, S): mean attention of the bare encoder on each special token
    chosen_by: str  # how the layers were chosen: the adapter's setting

    def prompted(self, slot: int) -> list[int]:
        """Return the layers that prompt a special token."""
        return [layer for layer, row in enumerate(self.plan) if row[slot] >= 0]

    def lines(self) -> list[str]:
        """Return what one learns from it."""
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
    """Read an adapter's plan, and measure the attention beside it.

    The split is train unless another is given, and its first rows, as a measured plan is made from them.
    Raises SoftcueError; RequestError for an adapter without a plan.
    """
    chosen: HowOpened = {**how, "split": how.get("split") or "train"}
    return plan_view(open_subject(adapter, data, **chosen, draw=False))


def plan_view(subject: Subject) -> PlanView:
    """Read what `inspect_plan` returns."""
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
