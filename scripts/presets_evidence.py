"""What stands behind the presets: tables of all that was tried on development sets, for
scripts/presets_page.py.
"""

import csv
import json
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.common import table
from scripts.check_presets import METHODS, RESULTS
from scripts.find_presets import DEVELOPMENT, SIZES

ROOT = RESULTS.parent.parent.parent
RECONSTRUCTED = {
    "stp": "stp (reconstruction)",
    "gpc": "gpc (reconstruction)",
    "apt": "apt (gates reconstructed)",
}
SWEPT = ("epochs", "rate", "batch")  # columns of a sweep's table that a command names


def shown(method: str) -> str:
    """A method's name, with a word of warning where it is a reconstruction."""
    return RECONSTRUCTED.get(method, method)


def found_rates() -> str:
    """What the search tried and took."""
    evidence = json.loads((ROOT / "softcue" / "presets.json").read_text(encoding="utf-8"))
    rows = []
    for one in evidence["found"]:
        means = ["diverged" if row["mean"] is None else f"{row['mean']:.3f}" for row in one["tried"]]
        tried = [f"{row['rate']:g}: {told}" for row, told in zip(one["tried"], means, strict=True)]
        told = [
            f"**{text}**" if row["rate"] == one["rate"] else text
            for text, row in zip(tried, one["tried"], strict=True)
        ]
        rows.append(
            {
                "method": one["method"],
                "kind": one["kind"],
                "size": one["size"],
                "rate": f"{one['rate']:g}",
                "scores": ", ".join(told),
            }
        )
    sets = "; ".join(
        f"{kind} on {', '.join(names)} ({size})"
        for kind, sizes in DEVELOPMENT.items()
        for size, names in sizes.items()
    )
    commands = "\n".join(dict.fromkeys(one["command"] for one in evidence["found"]))
    large, small = SIZES["large"], SIZES["small"]
    return f"""## Rates

```text
{commands}
```

One seed; a tenth of train selects; the head has the whole rate. The development sets are: {sets}.
Large is {large[0]:,} rows and {large[1]} epochs, small is {small[0]} rows and {small[1]} epochs.

A score is the mean over the sets, on the selection rows. One seed on so few rows cannot show small
differences: 0.01 for large, 0.03 for small. Among rates that differ by no more than this, the one nearest to
the method's usual rate is taken.

Two kinds of rates in this table are not those that softcue ships:

- APT's and LoRA's rates for tags were replaced by those of the last section, which had longer prefixes and
  more examples.
- The rates for small data are **not shipped**. Their search used 40 selection rows, and a third of the
  examples that a preset sees. On the help-desk tasks some did worse than the usual rate. Until they are
  searched again, small data uses the rates of large.

{table(rows)}
"""


def full_rates() -> str:
    """What was tried for full fine-tuning, which no sweep can pack."""
    runs = json.loads((RESULTS / "full_rate.json").read_text(encoding="utf-8"))
    by_rate: dict[float, dict[str, Any]] = {}
    for run in runs:
        by_rate.setdefault(run["rate"], {"rate": f"{run['rate']:g}"})[run["data"]] = f"{run['selection']:.3f}"
    return f"""## Full fine-tuning

```text
python -m scripts.full_rate --data-root DATA
```

The rate of full fine-tuning was also chosen on development sets, so that the comparison is fair.
{SIZES["large"][0]:,} rows, {SIZES["large"][1]} epochs, one seed; scores are those on the selection rows.

{table(list(by_rate.values()))}
"""


def epochs() -> str:
    """How many examples are enough."""
    runs = runs_in(RESULTS / "epochs.csv")
    sets = list(dict.fromkeys(run["data"] for run in runs))
    by_epochs: dict[str, dict[str, Any]] = {}
    for run in runs:
        by_epochs.setdefault(run["epochs"], {"epochs": run["epochs"]})[run["data"]] = (
            f"{float(run['selection']):.3f}"
        )
    commands, tags = tag_epochs()
    return f"""## Epochs

```text
softcue sweep {" ".join(sets)} --method pasta \\
    --grid epochs={",".join(by_epochs)} --grid rate=2e-2 --rows 2000 --out epochs
```

One seed; scores are those on the selection rows. By preset, a training sees 16,000 examples in all, but each
row at least 4 and at most 30 times. With 2,000 rows that is 8 epochs.

{table(list(by_epochs.values()))}

Tags need more training, especially with prefixes in every layer:

```text
{commands}
```

One seed; f1 on the 200 selection rows of mit_movie. Methods that gain more than 0.03, which one seed on so
few rows can show, see 40,000 examples of tags by preset.

{tags}
"""


def runs_in(file: Path) -> list[dict[str, str]]:
    """The lines of a sweep's table."""
    with file.open(encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def tag_epochs() -> tuple[str, str]:
    """The commands of sweeps over epochs on tags, and their table."""
    commands, rows = [], []
    for file in sorted((RESULTS / "tag_epochs").glob("*.csv"), key=lambda file: METHODS.index(file.stem)):
        runs = runs_in(file)
        grids = " ".join(
            f"--grid {name}={','.join(dict.fromkeys(run[name] for run in runs))}"
            for name in SWEPT
            if name in runs[0]
        )
        commands.append(f"softcue sweep mit_movie --method {file.stem} {grids} --rows 2000 --out OUT")
        by_point: dict[str, dict[str, Any]] = {}
        for run in runs:
            row = {"method": shown(file.stem), "rate": run["rate"], "batch": run.get("batch", "32")}
            by_point.setdefault(str(row), row)[f"{run['epochs']} epochs"] = f"{float(run['selection']):.3f}"
        rows += by_point.values()
    return "\n".join(commands), table(rows)


def studies() -> str:
    """What scripts/preset_settings.py tried."""
    return f"""## Prefix length, the head's share of the rate, LoRA's rate

```text
python -m scripts.preset_settings --data-root DATA
```

The scores are those on the test rows of development sets, one for each seed, after the preset's number of
examples. (Test rows of development sets may be used to choose.) `head_rate` is the head's share of the rate.
Blank cells were not run. A method whose `head_rate` was not tried keeps 1.

**Tags** (f1; mit_movie: 1,953 rows, conll04: 288 rows). `sparse` is conll04 with the tags of only one type,
so most sentences have none. It was made after a first look at wnut17. There LoRA found nothing in two of
three seeds with a rate of 0.009, the best of the search above.

60 epochs are twice the preset for conll04, and three times the preset for mit_movie. They gain one or two
points. The preset stays as it is until the held-back sets are measured with more epochs. Other values of
dropout and decay gain no more than one seed can show.

{tried("f1")}

**Labels** (accuracy; atis_intent: 893 rows, sst2: 1,821 rows). A smaller rate for the head was first tried on
cola, on training rows that no held-back score uses. The choice for labels was made on the sets below. For
tags it made no difference that one seed can show.

{tried("accuracy")}
"""


def kept_steps() -> str:
    """What scripts/kept_step.py tried."""
    rows = []
    for run in json.loads((RESULTS / "kept_step.json").read_text(encoding="utf-8"))["runs"]:
        means = {rule: f"{mean(scores):.3f}" for rule, scores in run["scores"].items()}
        told = {
            "set": f"{run['set']}, {run['rows']:,} rows",
            "selection rows": run["selection"],
            "method": shown(run["method"]),
        }
        rows.append({**told, "seeds": len(run["points"]), **means})
    return f"""## Which step is kept

```text
python -m scripts.kept_step --data-root DATA
```

Every run went to its end. Then each rule was applied to the scores on the selection rows. The table shows how
the kept step scores on at most 300 test rows of development sets, as a mean over seeds.

- `last` keeps the last step.
- `best` keeps the step with the best score.
- `best, patience 8` does the same, but stops after 8 evaluations without a better score. This was the preset
  before.
- `tolerance N` keeps the latest step that is at most N standard errors below the best. It stops after 8
  evaluations that are further below.

Below 1,000 training rows the preset is now tolerance 1. Above that it stays 0 until the held-back sets are
measured again.

{table(rows)}
"""


def tried(metric: str) -> str:
    """A table of the studies with this metric."""
    by_point: dict[str, dict[str, str]] = {}
    for file in sorted((RESULTS / "settings").glob("*.json")):
        study = json.loads(file.read_text(encoding="utf-8"))
        for run in study["runs"] if study["metric"] == metric else ():
            told = ", ".join(f"{key} {value:g}" for key, value in run["settings"].items()) or "as shipped"
            row = by_point.setdefault(
                f"{run['method']} {told}", {"method": shown(run["method"]), "settings": told}
            )
            row[f"{file.stem}, {study['rows']:,} rows"] = ", ".join(f"{score:.3f}" for score in run["scores"])
    order = list(map(shown, METHODS))
    return table(sorted(by_point.values(), key=lambda row: order.index(row["method"])))
