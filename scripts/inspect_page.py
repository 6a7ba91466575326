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
HEAD = """# Inspect an adapter

`softcue inspect` shows what an adapter does inside its encoder: where its attention goes, or what its gates
and vectors look like.

`softcue inspect VIEW ADAPTER DATA --out DIR` writes `DIR/VIEW.json` and `DIR/VIEW.png`, and prints one or two
lines. There are five views: `attention` works for every method, and each of the others is for one method. If
a view does not fit the adapter's method, softcue says so in one line.

- By default the view uses at most 256 rows of `test`, or of `dev` if there is no test (`--rows`, `--split`).
- Pictures need matplotlib (`softcue[plots]`).
- In Python use `softcue.inspect_attention(adapter, data)`, or `inspect_gates`, `inspect_selection`,
  `inspect_cell` and `inspect_plan`. Each returns a frozen record with `to_json()`.
- A method of your own can support a view: pass the same names to `ctx.watch`
  ([architecture](architecture.md#the-protocol)).

`python -m scripts.inspect_page` writes this page. It trains the adapters on the bundled help-desk data, with
MiniLM and the default settings. Each adapter is one run with one seed. The pictures show how to use a view;
they prove nothing about a method. Layers count from 0.
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
        """This view works for every method. It shows how much attention the text pays to each special token,
by layer and head: the mean attention probability, without the adapter and with it. The second line above
counts the heads that pay more than half of their attention to special tokens. If a method has prefix tokens
or prompt rows, these have a map of their own.

MiniLM attends to [CLS] from the second layer on, and hardly to [SEP]. BERT is known for the opposite (Clark
et al., 2019), so what is known about BERT's separators may not hold here. With PASTA, the last layer attends
less to [CLS], and some heads of the layers before it attend more to [SEP].""",
    ),
    Section(
        "gates",
        "gates: APT (partly a reconstruction)",
        (("intent", "apt"), ("entities", "apt")),
        """This view shows the gate of each prefix token in each layer, how much the gates vary between texts,
and the scale of each layer. The gates say in which layers a task uses its prefix. You can give several
adapters, each with its data, for example a classifier and a tagger.

With the presets, nearly all gates end wide open and vary little between texts. APT is then almost P-tuning v2
with a scale for each layer. The tagger closes a few tokens in one late layer. The scales do differ: the
classifier's rise in the last two layers, and the tagger's stay below 1.""",
    ),
    Section(
        "selection",
        "selection: SPT",
        (("intent", "spt"),),
        """This view shows the gate of each prefix token, averaged over heads, rows and texts. It also shows
the absolute cosine |cos| of every pair of prefix tokens, averaged over their keys and values. SPT's loss is
meant to keep prefix tokens different from each other.

The gates differ more between layers than between the tokens of a layer. So SPT selects layers here, and the
last layer is closed the most. Tokens of deeper layers are more alike. If |cos| is near 1, try a shorter
prefix or a larger `diversity`.""",
    ),
    Section(
        "cell",
        "cell: GPC (reconstruction)",
        (("intent", "gpc"),),
        """The cell adds two terms: P W_r, what it remembers, and O W_f, what it takes from the layer below.
This view shows the norm of each term, the share of the first, and how far the matrices W_r and W_f moved from
their initial values, zero and the identity.

The matrices hardly move, but a good part of what enters a layer is remembered. The reason is that W_r moved
in only a few directions, and the prompt is large in these. Before layer 1 nearly nothing is remembered,
because the learnt prompt itself is short compared with the output of a layer. If the share were near zero
everywhere and W_f near the identity, GPC would be prompt tuning.""",
    ),
    Section(
        "plan",
        "plan: STP (reconstruction)",
        (("duplicates", "stp"),),
        """STP adds its vectors to chosen special tokens in chosen layers: its plan. This view shows the plan
beside the attention of the encoder without the adapter. The attention is measured on the first rows of
`train`, because a measured plan is made from these. Framed numbers mark the layers that get a vector.

In MiniLM, separators get very little attention, and their layers differ only in the third decimal. For [CLS]
the plan follows a clear curve; for [SEP] it hardly does. The attention on all separators of a text is added
up before the layers are ranked.""",
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
