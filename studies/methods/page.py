"""Writes docs/results.md and its plots from the cells of the study: python -m studies.methods.page"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from scripts.presets_page import checked
from softcue.files import write_file
from studies.methods.__main__ import RESULTS
from studies.methods.claims import CLAIMS, Claim
from studies.methods.held_back import Results, held_back_difference, held_back_points
from studies.methods.plan import (
    BASE,
    BASE_METHODS,
    CORE,
    FEW,
    METHODS,
    MINILM,
    MPNET,
    ROWS,
    SHOTS,
    grade_of,
    planned_cells,
)
from studies.methods.plots import draw_held_back, draw_plots, every_method
from studies.methods.summary import Cells, Difference, Score, cost_of, difference, read_study, score_of

ROOT = Path(__file__).resolve().parents[2]
PAGE, PLOTS = ROOT / "docs" / "results.md", ROOT / "docs" / "plots"
WHOLE = f"{ROWS}-rows"
HEAD = """# Results

How well each method works on real text, with the default settings of `softcue train`.

A **cell** is one trained adapter: a method, a data set and a seed.
{there} of {planned} planned cells are measured{missing}.
Each cell is a file in `studies/methods/results`. This page is written from these files:

```text
python -m studies.methods --data-root DATA --mpnet FOLDER     # every cell that is missing
python -m studies.methods --data-root DATA --anew --only minilm/glue-sst2/2000-rows/pasta-0     # one again
python -m studies.methods.page                                # this page
```

- Training has at most {rows:,} rows, the same for all seeds.
- If a set has dev and test, dev chooses the best step and test is reported. Otherwise a tenth of train
  chooses, and dev or test is reported. The reported rows choose nothing.
- A score is the mean over seeds of the set's first metric. The number after ± is the sample deviation over
  seeds.
- A number in brackets is the number of seeds, where it is not three.
- Bold marks the best score of a column, without full fine-tuning.

An earlier comparison on three sets is on [its own page](equal-budgets.md).
"""
CLAIMS_WORDS = """Each row compares two methods, or two variants of one. The difference is the score of the
first minus that of the second, on MiniLM. It is averaged over the seeds that both have, and then over the
sets of the first table. The 95 % confidence interval is by Student's t over the sets.
"""
HELD_BACK_WORDS = """The same for the methods that were measured when the [presets](presets.md) were checked:
on cola, qqp, clinc150, conll2003, wnut17 and gum, with 2,000 rows and three seeds
(`python -m scripts.check_presets --data-root DATA`). These sets had no part in finding the presets.
"""


def main() -> None:
    """Write the page and its plots."""
    cells, held_back = read_study(RESULTS), checked()
    write_file(PAGE, page(cells, held_back).encode())
    draw_plots(cells, PLOTS)
    parameters = next(cell["encoder_parameters"] for seeds in cells.values() for cell in seeds.values())
    draw_held_back(held_back_points(held_back, parameters), PLOTS)


def page(cells: Cells, held_back: Results) -> str:
    """Return the whole page. held_back: of the presets' held-back sets."""
    wanted = {(c.encoder, c.data, c.budget, c.arm, c.seed) for c in planned_cells()}
    there = {(*key, seed) for key, seeds in cells.items() for seed in seeds} & wanted
    missing = "" if there == wanted else "; the others are blank below"
    head = HEAD.format(there=len(there), planned=len(wanted), missing=missing, rows=ROWS)
    parts = [
        head,
        "## MiniLM, 6 layers",
        score_table(cells, MINILM, CORE, WHOLE, METHODS),
        "## all-mpnet-base-v2, 12 layers",
        score_table(cells, MPNET, BASE, WHOLE, BASE_METHODS),
        "## What it costs",
        cost_table(cells),
        "## The papers' claims",
        CLAIMS_WORDS,
        claims_table((claim, claimed(cells, CORE, WHOLE, claim)) for claim in CLAIMS),
        cosine_line(cells),
        "### On the held-back sets of the presets",
        HELD_BACK_WORDS,
        claims_table(held_back_claims(held_back)),
        "![score over size](plots/results-held-back.png)",
        "## A few examples",
        "For each seed, examples are drawn until every class has this number, or has no more. "
        "There is no dev split: a tenth of these examples chooses the best step.",
    ]
    of_methods = [claim for claim in CLAIMS if claim.is_of_methods]
    for shots in SHOTS:
        budget = f"{shots}-a-class"
        parts += [
            f"### {shots} a class",
            score_table(cells, MINILM, FEW, budget, METHODS),
            f"The claims about whole methods, with {shots} examples a class:",
            claims_table((claim, claimed(cells, FEW, budget, claim)) for claim in of_methods),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def score_table(cells: Cells, encoder: str, sets: Sequence[str], budget: str, arms: Sequence[str]) -> str:
    """Return a row for each method and a column for each data set."""
    scores = {(arm, data): score_of(cells, encoder, data, budget, arm) for arm in arms for data in sets}
    arms = [arm for arm in arms if any(scores[arm, data] is not None for data in sets)]
    if not arms:
        return "Not measured yet."
    best = {
        data: max(
            (score.mean for arm in arms if arm != "full" and (score := scores[arm, data]) is not None),
            default=None,
        )
        for data in sets
    }
    metrics = {
        data: cell["metrics"][0] for (_, data, _, _), seeds in cells.items() for cell in seeds.values()
    }
    heads = [f"{data.split('/')[-1]} ({metrics[data]})" if data in metrics else data for data in sets]
    lines = [f"| method | {' | '.join(heads)} |", "|---" * (len(sets) + 1) + "|"]
    for arm in arms:
        told = [score_cell(scores[arm, data], best[data]) for data in sets]
        lines.append(f"| {method_cell(arm)} | {' | '.join(told)} |")
    return "\n".join(lines)


def score_cell(score: Score | None, best: float | None) -> str:
    """Return a score as text."""
    if score is None:
        return ""
    mean = f"{score.mean:.3f}"
    told = f"**{mean}**" if score.mean == best else mean
    deviation = "" if score.deviation is None else f" ± {score.deviation:.3f}"
    return told + deviation + ("" if score.seeds == 3 else f" ({score.seeds})")


def method_cell(arm: str) -> str:
    """Return a method's name, labelled where it is a reconstruction."""
    grade = grade_of(arm)
    return f"{arm} ({grade})" if grade else arm


def cost_table(cells: Cells) -> str:
    """Return trained parameters, kilobytes and seconds of each method on the first encoder."""
    lines = [
        "MiniLM, medians over the cells of the first table. Trained parameters leave out the head. "
        "Kilobytes are the size of the adapter with its head, in float32. Seconds are those of one "
        "processor core, from records to scores. The machine also did other work: compare only ratios.",
        "",
        "| method | trained parameters | kilobytes | seconds |",
        "|---|---|---|---|",
    ]
    for arm in METHODS[1:]:
        if (cost := cost_of(cells, MINILM, CORE, WHOLE, arm)) is None:
            continue
        costs = f"{cost.trained:,.0f} | {cost.kilobytes:,.0f} | {cost.seconds:,.0f}"
        lines.append(f"| {method_cell(arm)} | {costs} |")
    if every_method(cells):
        lines += ["", "![score over cost](plots/results-cost.png)"]
    return "\n".join(lines)


def claimed(cells: Cells, sets: Sequence[str], budget: str, claim: Claim) -> Difference:
    """Return the difference that a claim is about, on MiniLM."""
    return difference(cells, MINILM, sets, budget, claim.arm, claim.other)


def held_back_claims(results: Results) -> list[tuple[Claim, Difference]]:
    """Return the claims about methods that were measured on the held-back sets of the presets."""
    found = [(claim, held_back_difference(results, claim.arm, claim.other)) for claim in CLAIMS]
    return [(claim, own) for claim, own in found if own.by_set]


def claims_table(found: Iterable[tuple[Claim, Difference]]) -> str:
    """Return a row for each claim: the difference between two arms, with its interval."""
    lines = [
        "| paper | it says | compared | sets | difference | the first is |",
        "|---|---|---|---|---|---|",
    ]
    for claim, own in found:
        lines.append(
            f"| {claim.paper} | {claim.said} | {claim.arm} - {claim.other} | {' | '.join(told(own))} |"
        )
    return "\n".join(lines)


def cosine_line(cells: Cells) -> str:
    """Say how alike SPT's prefix tokens are, with the selective loss and without it."""
    found = {}
    for arm in ("spt", "spt-no-diversity"):
        own = [
            cell["token_cosine"]
            for (encoder, _, budget, name), seeds in cells.items()
            if (encoder, budget, name) == (MINILM, WHOLE, arm)
            for cell in seeds.values()
            if "token_cosine" in cell
        ]
        found[arm] = f"{mean(own):.3f} ({len(own)} cells)" if own else "not measured yet"
    return (
        "SPT's paper says that the selective loss makes prefix tokens less alike. Mean |cosine| of two "
        f"prefix tokens: with the selective loss {found['spt']}, without it {found['spt-no-diversity']}."
    )


def told(found: Difference) -> tuple[str, str, str]:
    """Return the number of sets, the difference and the verdict as text."""
    if not found.by_set:
        return "0", "", "not measured yet"
    interval = f" ± {found.half_width:.3f}" if len(found.by_set) > 1 else ""
    return str(len(found.by_set)), f"{found.mean:+.3f}{interval}", found.verdict


if __name__ == "__main__":
    main()
