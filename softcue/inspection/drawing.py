"""Views as PNG: maps over layers in one scale of colours, and lines beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

from softcue.errors import RequestError, one_line
from softcue.inspection.attention import AttentionView
from softcue.inspection.cell import CellView
from softcue.inspection.gates import GatesView
from softcue.inspection.plan import PlanView
from softcue.inspection.selection import SelectionView
from softcue.kinds import KINDS
from softcue.kinds.base import READS_WORDS
from softcue.studies.plot import as_png

View = AttentionView | GatesView | SelectionView | CellView | PlanView
COLOURS = "cividis"  # it reads alike with and without colour vision
DARK, LIGHT = "#00336f", "#c9a227"  # two lines beside each other, from both ends of it
TICKS = 12  # at most, on an axis of whole numbers
NAMED = 40  # labels at most whose names stand on an axis; of more, every second, third, ..
LONGEST_NAME = 28  # characters of a label on an axis
DRAWN_PAIRS = 6  # layers whose pairs of prefix tokens are drawn; the JSON has all


def need_plots() -> Any:
    """Return matplotlib's Figure; RequestError that says how to install it where it is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RequestError(
            "matplotlib is not installed, and a view is drawn with it; install it: pip install "
            "'softcue[plots]'"
        ) from None
    return Figure


def draw_view(view: View) -> bytes:
    """Return the view's picture as PNG. Raises RequestError where matplotlib is missing."""
    figure = need_plots()(layout="constrained")
    if isinstance(view, AttentionView):
        _attention(figure, view)
    elif isinstance(view, GatesView):
        _gates(figure, view)
    elif isinstance(view, SelectionView):
        _selection(figure, view)
    elif isinstance(view, CellView):
        _cell(figure, view)
    else:
        _plan(figure, view)
    return as_png(figure)


def draw_report(report: Mapping[str, Any]) -> bytes:
    """Return the picture of an evaluation's report as PNG: F1 by label, confusion, calibration.

    What the kind of data does not have is left out. Raises RequestError where matplotlib is missing.
    """
    figure = need_plots()(layout="constrained")
    parts = [draw for name, draw in REPORTED.items() if name in report]
    room = 0.19 * min(NAMED, len(report.get("labels", ())))  # inches; a line of small print takes less
    figure.set_size_inches(max(5.5, 3.5 + room) * max(1, len(parts)), max(5, 2.5 + room))
    spots = figure.add_gridspec(1, max(1, len(parts)))
    told = ", ".join(f"{name} {value:.3f}" for name, value in report["scores"].items())
    figure.suptitle(f"{report['rows']:,} rows: {told}")
    for place, draw in enumerate(parts):
        draw(figure, figure.add_subplot(spots[0, place]), report)
    return as_png(figure)


def _labels_drawn(figure: Any, axes: Any, report: Mapping[str, Any]) -> None:
    """Draw precision, recall and F1 of each label."""
    names = list(report["per_label"])
    places, shown = _named_ticks(names)
    for key, colour, marker in (("precision", LIGHT, "s"), ("recall", DARK, "o"), ("f1", "black", "D")):
        values = [report["per_label"][name][key] for name in names]
        axes.plot(values, range(len(names)), color=colour, marker=marker, linestyle="", label=key)
    axes.set_title("by label", fontsize="small")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_yticks(places, shown, size="small")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, frameon=False)


def _confusion(figure: Any, axes: Any, report: Mapping[str, Any]) -> None:
    """Draw how many rows (words, for tags) of each label got which answer."""
    table = report["confusion"]
    drawn = _map(axes, table, "confusion", "answer", "truth")
    places, shown = _named_ticks(report["labels"])
    axes.set_xticks(places, shown, rotation=90, size="small")
    axes.set_yticks(places, shown, size="small")
    half = max(map(max, table)) / 2
    for truth, row in enumerate(table if len(table) <= TICKS else ()):
        for answer, count in enumerate(row):
            ink = "black" if count > half else "white"
            axes.text(truth, answer, f"{count:,}", ha="center", va="center", color=ink, size="small")
    unit = "words" if KINDS[report["kind"]].reads == READS_WORDS else "rows"
    figure.colorbar(drawn, ax=axes, label=unit, shrink=0.8)


def _calibration(figure: Any, axes: Any, report: Mapping[str, Any]) -> None:
    """Draw the accuracy of the rows by how sure their answers are."""
    bins = report["calibration"]["bins"]
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], color=DARK, marker="o")
    axes.set_title(f"calibration, expected error {report['calibration']['ece']:.3f}", fontsize="small")
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.grid(alpha=0.3)


# what a report may have -> how it is drawn
REPORTED = {"per_label": _labels_drawn, "confusion": _confusion, "calibration": _calibration}


def _attention(figure: Any, view: AttentionView) -> None:
    """Draw heads and layers for each special token, without and with the adapter, and the shares."""
    tables = [[("bare encoder", name, own) for name, own in zip(view.slots, view.before.slots, strict=True)]]
    tables.append([("with the adapter", n, own) for n, own in zip(view.slots, view.after.slots, strict=True)])
    if any(map(any, view.after.prompt)):
        tables[1].append(("with the adapter", "prompts and prefixes", view.after.prompt))
    most = max(value for row in tables for _, _, own in row for heads in own for value in heads)
    columns = len(tables[1])
    figure.set_size_inches(2.7 * columns + 5, 6.4)
    figure.suptitle(f"Attention on special tokens: {view.shown.title}")
    spots = figure.add_gridspec(2, columns + 1, width_ratios=[1.0] * columns + [1.35])
    maps, drawn = [], None
    for row, its in enumerate(tables):
        for column, (when, name, values) in enumerate(its):
            axes = figure.add_subplot(spots[row, column])
            drawn = _map(axes, values, f"{name}, {when}", "" if column else "head", most=most)
            maps.append(axes)
    figure.colorbar(drawn, ax=maps, label="mean attention probability", shrink=0.7)
    axes = figure.add_subplot(spots[:, columns])
    _line(axes, range(len(view.before.mostly)), view.before.mostly, "bare encoder", DARK, "o")
    _line(axes, range(len(view.after.mostly)), view.after.mostly, "with the adapter", LIGHT, "s")
    _finish(axes, "share of heads", "heads with more than half of their\nattention on special tokens")
    axes.set_ylim(-0.03, 1.03)


def _gates(figure: Any, view: GatesView) -> None:
    """Draw each adapter's gates and how they vary, and means by layer and scales of all together."""
    count = len(view.adapters)
    figure.set_size_inches(12, 3.9 * count + 3.9)
    figure.suptitle("Token gates of prefixes, by layer")
    rows = figure.subfigures(count + 1, 1)
    for part, own in zip(rows, view.adapters, strict=False):
        part.suptitle(own.shown.title, fontsize="medium")
        left, right = part.subplots(1, 2)
        part.colorbar(_map(left, own.mean, "mean over texts", "prefix token", most=1), ax=left, label="gate")
        drawn = _map(right, own.deviation, "deviation between texts", "prefix token")
        part.colorbar(drawn, ax=right, label="deviation of the gate")
    left, right = rows[-1].subplots(1, 2)
    colours = _shades(count)
    for own, colour, marker in zip(view.adapters, colours, _marks(count), strict=True):
        name = f"{own.shown.method} on {own.shown.data}"
        _line(left, range(len(own.mean)), own.by_layer, name, colour, marker)
        if own.scale is not None:
            _line(right, range(len(own.scale)), own.scale, name, colour, marker)
    _finish(left, "gate", "mean over prefix tokens and texts")
    _finish(right, "scale", "the layer's scale of all its gates")


def _selection(figure: Any, view: SelectionView) -> None:
    """Draw gates by layer and prefix token, likeness by layer, and pairs of the first layers."""
    layers = len(view.pairs)
    chosen = sorted({round(i * (layers - 1) / max(1, DRAWN_PAIRS - 1)) for i in range(DRAWN_PAIRS)})
    figure.set_size_inches(12, 7)
    figure.suptitle(f"Gates of prefix tokens and their likeness: {view.shown.title}")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    left, right = top.subplots(1, 2)
    drawn = _map(left, view.gate, "gate, mean over heads, rows and texts", "prefix token")
    top.colorbar(drawn, ax=left, label="gate")
    _line(right, range(layers), view.likeness, "", DARK, "o")
    _finish(right, "|cos|", "likeness of two prefix tokens, mean of pairs")
    spots = bottom.subplots(1, len(chosen), squeeze=False)[0]
    for axes, layer in zip(spots, chosen, strict=True):
        drawn = _map(axes, view.pairs[layer], f"|cos|, layer {layer}", "prefix token", "prefix token", 1)
        axes.set_aspect("equal")
        axes.label_outer()
    bottom.colorbar(drawn, ax=list(spots), label="|cos|", shrink=0.8)


def _cell(figure: Any, view: CellView) -> None:
    """Draw both parts' lengths, the share that is remembered, and how far the matrices moved."""
    figure.set_size_inches(12, 4)
    figure.suptitle(f"What the cell remembers and takes: {view.shown.title}")
    lengths, share, moved = figure.subplots(1, 3)
    _line(lengths, view.layers, view.remembered, "remembered, P $W_r$", DARK, "o")
    _line(lengths, view.layers, view.renewed, "taken from the layer, O $W_f$", LIGHT, "s")
    _finish(lengths, "mean length of a prompt vector", "the two parts", "layer that is entered")
    lengths.set_ylim(bottom=0)
    _line(share, view.layers, view.share, "", DARK, "o")
    _finish(share, "share", "share that is remembered", "layer that is entered")
    share.set_ylim(0, max(0.1, 1.15 * max(view.share)))
    if view.remember_moved is not None and view.forget_moved is not None:
        _line(moved, view.layers, view.remember_moved, "$W_r$ from zero", DARK, "o")
        _line(moved, view.layers, view.forget_moved, "$W_f$ from the identity", LIGHT, "s")
        moved.set_ylim(0, 1.3 * max(*view.remember_moved, *view.forget_moved, 1e-6))
    _finish(moved, "in norms of the identity", "how far the matrices moved", "layer that is entered")


def _plan(figure: Any, view: PlanView) -> None:
    """Draw which layers prompt which special tokens, and the attention on them."""
    figure.set_size_inches(11, 4.2)
    figure.suptitle(f"Prompted special tokens: {view.shown.title}")
    left, right = figure.subplots(1, 2)
    prompted = [[float(number >= 0) for number in row] for row in view.plan]
    _map(left, prompted, f"plan ({view.chosen_by}): bright is prompted", "", most=1)
    drawn = _map(right, view.mass, "attention of the bare encoder (framed: prompted)", "")
    figure.colorbar(drawn, ax=right, label="mean attention probability")
    for axes in (left, right):
        axes.set_yticks(range(len(view.slots)), view.slots)
    half = max(map(max, view.mass)) / 2
    for layer, row in enumerate(view.mass):
        for slot, mass in enumerate(row):
            ink = "black" if mass > half or view.plan[layer][slot] >= 0 else "white"
            frame = {"facecolor": "white", "boxstyle": "round"} if view.plan[layer][slot] >= 0 else None
            size = 8 if len(view.plan) <= TICKS else 5
            right.text(layer, slot, f"{mass:.3f}", ha="center", va="center", color=ink, size=size, bbox=frame)


def _map(
    axes: Any,
    values: Sequence[Sequence[float]],
    title: str,
    up: str,
    across: str = "layer",
    most: float | None = None,
) -> Any:
    """Draw a table whose rows are columns of the map: layers go from left to right."""
    turned = list(zip(*values, strict=True))
    drawn = axes.imshow(turned, cmap=COLOURS, aspect="auto", vmin=0, vmax=most, origin="lower")
    axes.set_title(title, fontsize="small")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_xticks(_ticks(len(values)))
    axes.set_yticks(_ticks(len(turned)))
    return drawn


def _line(axes: Any, x: Sequence[int], y: Sequence[float], name: str, colour: Any, marker: str) -> None:
    axes.plot(list(x), list(y), color=colour, marker=marker, markersize=5, label=name or None)


def _finish(axes: Any, up: str, title: str, across: str = "layer") -> None:
    """Label the axes of lines."""
    axes.set_title(title, fontsize="small")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    layers = sorted({int(x) for line in axes.lines for x in line.get_xdata()})
    axes.set_xticks([layers[i] for i in _ticks(len(layers))])
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def _ticks(count: int, most: int = TICKS) -> list[int]:
    """Return places of at most so many ticks on an axis of whole numbers."""
    return list(range(0, count, -(-count // most) or 1))


def _named_ticks(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return places of at most NAMED ticks, and the names there; what is long loses its middle."""
    places, keep = _ticks(len(names), NAMED), LONGEST_NAME // 2
    lines = [one_line(names[place]) for place in places]
    short = [one if len(one) <= LONGEST_NAME else f"{one[:keep]}..{one[2 - keep :]}" for one in lines]
    return places, [one.replace("$", r"\$") for one in short]  # two of them would be a formula


def _shades(count: int) -> list[Any]:
    """Return colours that differ in lightness, too."""
    from matplotlib import colormaps

    return (
        [DARK, LIGHT][:count] if count <= 2 else list(colormaps[COLOURS]([i / count for i in range(count)]))
    )


def _marks(count: int) -> list[str]:
    return [AVAILABLE[i % len(AVAILABLE)] for i in range(count)]


AVAILABLE = ("o", "s", "^", "D", "v", "P")  # marks of lines
