"""The views by name: what each measures, draws and says, and the two files that it writes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from softcue.errors import RequestError, WriteError
from softcue.files import JsonRecord, as_path, write_file
from softcue.inspection import drawing
from softcue.inspection.attention import AttentionLook, inspect_attention
from softcue.inspection.parts import (
    CellLook,
    GateLook,
    PlanLook,
    SelectionLook,
    inspect_cell,
    inspect_gates,
    inspect_plan,
    inspect_selection,
)
from softcue.studies.results import check_results


@dataclass(frozen=True)
class View:
    """One way to look inside."""

    look: Callable[..., Any]
    draw: Callable[[Sequence[Any]], bytes]
    say: Callable[[Any], str]  # what one learns, in a line
    several: bool = False  # whether adapters can stand side by side


def _say_attention(look: AttentionLook) -> str:
    before, after = (
        mean(sum(head) for layer in mass for head in layer) for mass in (look.before, look.after)
    )
    return (
        f"attention on special tokens: {before:.3f} before, {after:.3f} after; heads that look mostly there: "
        f"{mean(look.mostly_before):.0%} before, {mean(look.mostly_after):.0%} after"
    )


def _say_gates(look: GateLook) -> str:
    means = [mean(layer) for layer in look.gate]
    told = f"mean gate by layer: {_numbers(means)}"
    return told if look.scale is None else f"{told}; layer scale: {_numbers(look.scale)}"


def _say_selection(look: SelectionLook) -> str:
    means = [mean(layer) for layer in look.gate]
    return f"mean gate by layer: {_numbers(means)}; mean |cos| of two tokens: {_numbers(look.likeness)}"


def _say_cell(look: CellLook) -> str:
    shares = [r / (r + t) for r, t in zip(look.remembered, look.taken, strict=True)]
    return f"share that is remembered, from layer 1: {_numbers(shares)}"


def _say_plan(look: PlanLook) -> str:
    layers = {
        f"[{role.upper()}] {slot}": [layer for layer, row in enumerate(look.place) if row[slot] >= 0]
        for slot, role in enumerate(look.slots)
        if slot < len(look.place[0])
    }
    return "layers with a vector: " + "; ".join(
        f"{slot}: {', '.join(map(str, found)) or 'none'}" for slot, found in layers.items()
    )


VIEWS: Mapping[str, View] = {
    "attention": View(inspect_attention, lambda looks: drawing.draw_attention(looks[0]), _say_attention),
    "gates": View(inspect_gates, drawing.draw_gates, _say_gates, several=True),
    "selection": View(inspect_selection, lambda looks: drawing.draw_selection(looks[0]), _say_selection),
    "cell": View(inspect_cell, lambda looks: drawing.draw_cell(looks[0]), _say_cell),
    "plan": View(inspect_plan, lambda looks: drawing.draw_plan(looks[0]), _say_plan),
}


def inspect(
    name: str, pairs: Sequence[tuple[str | Path, str]], out: str | Path, **how: Any
) -> list[JsonRecord]:
    """Look at adapters on data, and write out/NAME.json and out/NAME.png.

    pairs: an adapter and its data; one, or several where the view sets them side by side.
    how: split, rows, backbone and root, as open_subject takes them.
    The JSON has a list of looks. Raises SoftcueError.
    """
    if name not in VIEWS:
        raise RequestError(f"view {name!r} is unknown; expected one of {', '.join(VIEWS)}")
    view, folder = VIEWS[name], as_path("out", out)
    if len(pairs) > 1 and not view.several:
        raise RequestError(f"{name} came with {len(pairs)} adapters; expected one: leave --beside out")
    files = f"{name}.json", f"{name}.png"
    check_results(folder, files, ("view", "looks"))
    looks = [view.look(adapter, data, **how) for adapter, data in pairs]
    held = {"view": name, "looks": [look.to_json() for look in looks]}
    picture = view.draw(looks)
    make_folder(folder)
    write_file(folder / files[0], (json.dumps(held, indent=1, ensure_ascii=False) + "\n").encode())
    write_file(folder / files[1], picture)
    return looks


def make_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises WriteError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{folder} cannot be made ({error.strerror}); expected a folder to write to"
        ) from error


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
