"""Pictures of looks inside, all in one style."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from softcue.errors import RequestError
from softcue.inspection.attention import AttentionLook
from softcue.inspection.parts import CellLook, GateLook, PlanLook, SelectionLook

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by colour-blind readers (Okabe and Ito)
RECONSTRUCTIONS = {
    "stp": "STP, a reconstruction",
    "gpc": "GPC, a reconstruction",
    "apt": "APT, partly a reconstruction",
}
Draw = Callable[["Figure"], None]


def as_png(width: float, height: float, draw: Draw) -> bytes:
    """Return a picture as the bytes of a PNG. Raises RequestError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RequestError(
            "matplotlib is not installed, which draws the picture; expected pip install 'softcue[plots]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=120)
    return held.getvalue()


def draw_attention(look: AttentionLook) -> bytes:
    """Draw attention on special tokens by layer and head, before and after tuning."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(1, 3, width_ratios=(3, 3, 2))
        for axis, name, mass in (
            (axes[0], "before", look.before),
            (axes[1], f"after ({look.method})", look.after),
        ):
            rows = [[sum(head) for head in layer] for layer in mass]
            heat(figure, axis, rows, "head", f"{name}: attention on special tokens", 1.0)
        layers = range(len(look.before))
        axes[2].plot(look.mostly_before, layers, "o-", color=BLUE, label="before")
        axes[2].plot(look.mostly_after, layers, "s--", color=ORANGE, label="after")
        axes[2].set(
            xlabel="share of heads", ylabel="layer", xlim=(-0.05, 1.05), title="heads that look mostly there"
        )
        axes[2].set_yticks(list(layers))
        axes[2].invert_yaxis()
        axes[2].legend()

    return as_png(13, 4, draw)


def draw_gates(looks: Sequence[GateLook]) -> bytes:
    """Draw token gates by layer, and layer scales; several adapters one below the other."""

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(len(looks), 3, squeeze=False, width_ratios=(3, 3, 2))
        for axes, look in zip(grid, looks, strict=True):
            about = f"{_titled(look.method)} on {look.data}"
            heat(figure, axes[0], look.gate, "prefix token", f"{about}: gate", 1.0)
            heat(figure, axes[1], look.deviation, "prefix token", "deviation over texts", None)
            scales = look.scale or ()
            axes[2].barh(range(len(scales)), scales, color=BLUE)
            axes[2].set(xlabel="scale", ylabel="layer", title="layer scale")
            axes[2].set_yticks(range(len(scales)))
            axes[2].invert_yaxis()

    return as_png(13, 3.8 * len(looks), draw)


def draw_selection(look: SelectionLook) -> bytes:
    """Draw the gates of prefix tokens, and how alike the tokens are, by layer."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots(1, 2, width_ratios=(3, 2))
        heat(figure, axes[0], look.gate, "prefix token", f"{_titled(look.method)} on {look.data}: gate", None)
        layer_bars(axes[1], look.likeness, "mean |cos| of two keys", "likeness of prefix tokens", first=0)

    return as_png(11, 4, draw)


def draw_cell(look: CellLook) -> bytes:
    """Draw what the cell remembers, takes and changes, by layer."""

    def draw(figure: "Figure") -> None:
        sizes, changed = figure.subplots(1, 2)
        layers = range(1, len(look.taken) + 1)
        sizes.plot(layers, look.remembered, "o-", color=BLUE, label="remembered: P W_r")
        sizes.plot(layers, look.taken, "s--", color=ORANGE, label="taken: O W_f")
        sizes.set(xlabel="layer", ylabel="root mean square", title=f"{_titled(look.method)} on {look.data}")
        sizes.set_xticks(list(layers))
        sizes.set_ylim(bottom=0)
        sizes.legend()
        layer_bars(changed, look.changed, "|O W_f - O| / |O|", "how far the cell changes the prompt", first=1)

    return as_png(11, 4, draw)


def draw_plan(look: PlanLook) -> bytes:
    """Draw the attention on special tokens, with a cross where the plan has a vector."""

    def draw(figure: "Figure") -> None:
        axis = figure.subplots()
        heat(figure, axis, look.attention, "special token", f"{_titled(look.method)} on {look.data}", None)
        axis.set_xticks(range(len(look.slots)), [f"[{slot.upper()}]" for slot in look.slots])
        for layer, row in enumerate(look.place):
            for slot, vector in enumerate(row[: len(look.slots)]):
                if vector >= 0:
                    axis.plot(slot, layer, "x", color="white", markersize=11, markeredgewidth=4)
                    axis.plot(slot, layer, "x", color=ORANGE, markersize=10, markeredgewidth=2)
        figure.supxlabel(
            "colour: attention of the bare encoder; cross: a vector is learnt here", fontsize="small"
        )

    return as_png(6, 5, draw)


def heat(
    figure: "Figure",
    axis: "Axes",
    rows: Sequence[Sequence[float]],
    across: str,
    title: str,
    most: float | None,
) -> None:
    """Draw a table with layers downwards; `most` is the end of the colour scale, None for the largest."""
    image = axis.imshow(rows, cmap="cividis", vmin=0, vmax=most, aspect="auto", interpolation="nearest")
    axis.set(xlabel=across, ylabel="layer", title=title)
    axis.set_yticks(range(len(rows)))
    figure.colorbar(image, ax=axis)


def layer_bars(axis: "Axes", values: Sequence[float], across: str, title: str, first: int) -> None:
    """Draw a bar for each layer; `first` is the number of the first."""
    layers: Any = range(first, first + len(values))
    axis.barh(layers, values, color=GREEN)
    axis.set(xlabel=across, ylabel="layer", title=title)
    axis.set_yticks(layers)
    axis.invert_yaxis()


def _titled(method: str) -> str:
    return RECONSTRUCTIONS.get(method, method.upper())
