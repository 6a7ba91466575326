"""Train the adapters of docs/inspect.md, look into them, and write the page and its pictures: python -m
scripts.inspect_page --adapters FOLDER

An adapter that is in the folder already is not trained again.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import softcue
from scripts.presets_evidence import ROOT
from softcue.files import write_file
from softcue.inspection.drawing import draw_view

HELPDESK = "helpdesk"
HEAD = """# Inspecting an adapter

`softcue inspect VIEW ADAPTER DATA --out DIR` shows what an adapter does inside its encoder. It writes
`DIR/VIEW.json` and `DIR/VIEW.png`, and prints one or two lines. From Python the same is a value:
`softcue.inspect_attention(adapter, data)`, and likewise `inspect_gates`, `inspect_selection`, `inspect_cell`
and `inspect_plan`. Each returns a frozen record with `to_json()`.

At most 256 rows are looked at, of the split `test` or else `dev` (`--rows`, `--split`). Pictures need
matplotlib (`softcue[plots]`). A view that the adapter's method has nothing for is refused in one line. A
method of your own shows itself to a view by telling the same names to `ctx.watch`
([architecture](architecture.md)).

This page is written by `python -m scripts.inspect_page`, which trains the adapters on the bundled help-desk
data, with MiniLM and without flags. Each adapter is one run with one seed: the pictures show what a view is
good for, and prove nothing about a method. Layers count from 0.
"""


@dataclass(frozen=True)
class Section:
    """One view of the page."""

    view: str
    title: str
    trained: tuple[tuple[str, str], ...]  # (task, method) of each adapter
    text: str


SECTIONS = (
    Section(
        "attention",
        "attention: where heads look, before and after",
        (("intent", "pasta"),),
        """The mean attention probability of the text's rows on each special token, by layer and head, in the
bare encoder and with the adapter; any method. The line counts the heads whose attention on special tokens is
more than half. Prefix tokens and prompt rows have a map of their own where a method has them.

MiniLM looks at [CLS] from the second layer on, and hardly at [SEP]. BERT is known for the opposite (Clark et
al., 2019), so that what is said of BERT's separators need not hold here. With PASTA the last layer looks
away from [CLS], and some heads of the layers before it turn to [SEP].""",
    ),
    Section(
        "gates",
        "gates: APT (partly a reconstruction)",
        (("intent", "apt"), ("entities", "apt")),
        """The token gates by layer and prefix token, their deviation between texts, and the scale of each
layer. Several adapters may be given, each with its data: a classifier beside a tagger, for example, for the
gates tell which layers a task opens its prefix to.

With the presets nearly all gates end wide open, and differ little between texts: what is left of APT is then
P-tuning v2 with a scale for each layer. The tagger closes a few of its tokens in one late layer. The scales
do differ: the classifier's rise in the last two layers, and the tagger's stay below 1.""",
    ),
    Section(
        "selection",
        "selection: SPT",
        (("intent", "spt"),),
        """The gate of each prefix token, a mean over heads, rows and texts, and |cos| of each two prefix
tokens, a mean of their keys and of their values. SPT's loss is meant to keep prefix tokens apart.

The gates differ more between layers than between the tokens of a layer: SPT selects layers here, and the
last one is closed the most. Tokens of deeper layers are more alike. Where |cos| is near 1 a
shorter prefix, or a greater `diversity`, is worth a try.""",
    ),
    Section(
        "cell",
        "cell: GPC (reconstruction)",
        (("intent", "gpc"),),
        """The lengths of what the cell remembers, P W_r, and of what it takes from the layer below, O W_f;
the share of the first; and how far the matrices lie from where they began, zero and the identity.

The matrices hardly move, and yet a good part of what enters a layer is remembered: W_r moved in few
directions, and the prompt has a large part in them. In front of layer 1 nearly nothing is remembered, because
the learnt prompt itself is short beside what a layer returns. With a share near zero everywhere, and W_f near
the identity, GPC would be prompt tuning.""",
    ),
    Section(
        "plan",
        "plan: STP (reconstruction)",
        (("duplicates", "stp"),),
        """Which layers prompt which special token, beside the attention of the bare encoder. It is measured
on the first rows of `train`, as a measured plan is made from them; framed numbers are prompted.

Separators get so little attention in MiniLM that the order of its layers hangs on thousandths: with [CLS]
the plan follows a clear curve, with [SEP] hardly. Attention on all separators of a text is added before
layers are ranked.""",
    ),
)


def main() -> None:
    """Train what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=Path, default=Path("adapters/inspect"))
    folder = parser.parse_args().adapters
    base = softcue.open_base("minilm")
    parts = [HEAD]
    for section in SECTIONS:
        for task, method in section.trained:
            place = folder / f"{task}-{method}"
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                softcue.train(f"{HELPDESK}/{task}", backbone=base, method=method).save(place)
        pairs = [(folder / f"{task}-{method}", f"{HELPDESK}/{task}") for task, method in section.trained]
        how: dict[str, Any] = {"beside": pairs[1:]} if pairs[1:] else {}
        found = getattr(softcue, f"inspect_{section.view}")(*pairs[0], backbone=base, **how)
        write_file(ROOT / "docs" / "plots" / f"inspect-{section.view}.png", draw_view(found))
        parts.append(told(section, found.lines()))
        print("\n".join(found.lines()), flush=True)
    write_file(ROOT / "docs" / "inspect.md", "\n".join(parts).encode())


def told(section: Section, lines: list[str]) -> str:
    """Return a section: the commands, what they print, the picture, and what one learns."""
    train = [
        f"softcue train {HELPDESK}/{task} --method {method} --out adapters/{task}-{method}"
        for task, method in section.trained
    ]
    given = " ".join(f"adapters/{task}-{method} {HELPDESK}/{task}" for task, method in section.trained)
    commands = "\n".join([*train, f"softcue inspect {section.view} {given} --out views"])
    picture = f"![{section.title}](plots/inspect-{section.view}.png)"
    shown = "\n".join(lines)
    return (
        f"## {section.title}\n\n```console\n{commands}\n```\n\n```text\n{shown}\n```\n\n{picture}\n\n"
        f"{section.text}\n"
    )


if __name__ == "__main__":
    main()
