"""Measures taggers with the rows' tokens and with raw text, and writes docs/tagging.md.

    python -m scripts.raw_text --data-root DATA             # hours; the same command goes on after a kill

Each adapter is trained with its preset on at most 2,000 rows, and asked for the test rows three times: with
their tokens, with the tokens joined by spaces, and so joined but with no space before . , ; : ! and ?.
Results go to a JSON, run by run.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.common import machine, table
from scripts.check_presets import OPTIONS, RESULTS, ROWS
from softcue.answering.predict import Predictor, score_raw_text
from softcue.api import evaluate, train
from softcue.base import Base, open_base
from softcue.cli.tour import helpdesk
from softcue.errors import SoftcueError
from softcue.files import read_json, write_file
from softcue.kinds.entities import spans
from softcue.readers import Data
from softcue.tasks import open_data

SETS = ("helpdesk", "conll04", "conll2003", "wnut17", "gum")
METHODS = ("pasta", "spt", "ptuning")
SEEDS = range(3)
MARKS = frozenset(".,;:!?")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "tagging.md"
HEAD = """# Tag words: tokens and raw text

A tagger finds entities in words that you give it, or in raw text:

```bash
softcue train helpdesk/entities --method ptuning --rows 64 --set epochs=2 --out adapters/entities
softcue predict adapters/entities "Maria Lopez still gets error E-4012 since Monday."
```

It splits raw text into the same units that it was trained on. Its quality should then not depend on who
splits the text. This page measures how far that holds.

The table shows entity F1 on the test rows, by character offsets; mean and sample deviation over seeds. Each
tagger answers the same rows in three forms:

- *tokens*: the row's own tokens;
- *joined*: one text, the tokens joined by spaces;
- *natural*: the same text without the spaces before . , ; : ! and ?

At most 2,000 training rows, presets, MiniLM. `python -m scripts.raw_text --data-root DATA` writes this page.
"""

WORDS = """
Most of the loss that remains is in natural text. One reason is that some data sets treat full stops
inconsistently: conll04 sometimes keeps the full stop at the end of a sentence on the entity, and sometimes
makes it a token of its own. The text alone does not show which. The next table counts entities of the
training rows:
"""


def main() -> None:
    """Read the command line, train and ask, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder with a folder for each data set"
    )
    parser.add_argument("--out", type=Path, default=RESULTS.parent / "raw_text.json", help="file to write")
    given = parser.parse_args()
    runs: list[dict[str, Any]] = read_json(given.out, SoftcueError)["runs"] if given.out.exists() else []
    done = {(run["set"], run["method"], run["seed"]) for run in runs}
    try:
        base = open_base("minilm")
        for seed, name, method in product(SEEDS, SETS, METHODS):
            if (name, method, seed) in done:
                continue
            data = (
                helpdesk("entities")
                if name == "helpdesk"
                else open_data(name, data_root=given.data_root, limit={"train": ROWS})
            )
            began = time.monotonic()
            scores = measure(data, method, seed, base)
            told = {"seconds": time.monotonic() - began, "commit": machine(OPTIONS)["commit"]}
            runs.append(
                {
                    "set": name,
                    "method": method,
                    "seed": seed,
                    "rows": len(data.splits["train"]),
                    **scores,
                    **told,
                }
            )
            write_file(given.out, json.dumps({"runs": runs}, indent=1).encode())
            write_file(PAGE, page(runs).encode())
            print(f"{name} {method} {seed}: {scores}", flush=True)
    except SoftcueError as error:
        sys.exit(f"raw_text: {error}")


def measure(data: Data, method: str, seed: int, base: Base) -> dict[str, float]:
    """F1 of one adapter, asked in three ways."""
    adapter = train(data, backbone=base, method=method, seed=seed)
    result = evaluate(adapter, data, backbone=base)
    natural = score_raw_text(
        Predictor(base, {"own": adapter}),
        "own",
        data.splits["test"],
        lambda word: "" if word in MARKS else " ",
    )
    assert result.raw_text is not None
    scores = {"tokens": result.scores["f1"], "joined": result.raw_text["f1"], "natural": natural["f1"]}
    return {**scores, **stops(data)}


def stops(data: Data) -> dict[str, int]:
    """Count the training entities whose last word ends in a full stop, and those that one follows."""
    attached = apart = 0
    for record in data.splits["train"]:
        for _, _, end in spans(record.tags):
            attached += len(record.tokens[end - 1]) > 1 and record.tokens[end - 1].endswith(".")
            apart += record.tokens[end : end + 1] == (".",)
    return {"attached": attached, "apart": apart}


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    """The table of what there is so far."""
    rows: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    for name in SETS:
        one = next((run for run in runs if run["set"] == name), None)
        if one:
            words.append({"data": name, "ends in a full stop": one["attached"], "one follows": one["apart"]})
    for name, method in product(SETS, METHODS):
        own = [run for run in runs if (run["set"], run["method"]) == (name, method)]
        if own:
            scores = {
                way: f"{mean(run[way] for run in own):.3f}"
                + (f" ± {stdev(run[way] for run in own):.3f}" if len(own) > 1 else "")
                for way in ("tokens", "joined", "natural")
            }
            worst = min(mean(run[way] - run["tokens"] for run in own) for way in ("joined", "natural"))
            rows.append(
                {
                    "data": name,
                    "method": method,
                    "seeds": len(own),
                    **scores,
                    "raw text's loss": f"{round(-worst, 3) + 0.0:.3f}",
                }
            )
    return f"{HEAD}\n{table(rows)}\n{WORDS}\n{table(words)}"


if __name__ == "__main__":
    main()
