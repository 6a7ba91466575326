"""Writes docs/few-shot.md from what `python -m benchmarks.setfit` measured.

python -m scripts.few_shot
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from benchmarks.common import table
from benchmarks.setfit import DRAWS, SHOTS, STEPS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "float32" / "setfit.json"
PAGE = ROOT / "docs" / "few-shot.md"
RIVAL = "setfit"
MOST = 10  # draws of a data set, where the benchmark names no fewer
SHARE = 0.2  # of SetFit's time: what is wanted of the best of our methods
HEAD = f"""# A few examples a class

softcue's methods compared with SetFit. Both use MiniLM (all-MiniLM-L6-v2) and {SHOTS} examples of each class,
or as many as there are. Both train on the same rows and answer the same test rows.

```text
python -m benchmarks.setfit --setfit-python SETFIT/bin/python --repeat 10 --threads 1 --clock cpu
python -m scripts.few_shot
```

The first command measures, the second writes this page. The first lines of `benchmarks/setfit.py` say how to
make the environment for SetFit.
"""
WORDS = """
- **draws**: how often the examples were drawn at random.
- **accuracy**: mean and sample deviation over draws.
- **to SetFit**: the difference to SetFit in points, for the same draw; mean and sample deviation.
- **seconds**: processor time of training (median), without loading the encoder and answering the test rows.
- **x faster**: SetFit's seconds divided by ours, the median over the draws that both sides have.

softcue's methods use their presets. They set aside a tenth of their few rows to choose the best step; the
probe uses these rows too in its last fit.

SetFit uses its defaults: batches of 16 pairs, one epoch, oversampling, a logistic regression. If an epoch
would have too many pairs, SetFit stops after the number of steps in the table. That is **fewer than its
authors advise**; with more time it may do better there.

The best of softcue's methods is chosen by the reported rows, which makes it look a little better than it is.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


def page(found: Mapping[str, Any]) -> str:
    """Return the whole page."""
    measured = [row for name in STEPS for row in summary(found["rows"], name)]
    machine = found["machine"]
    left = " The benchmark was stopped before all its draws were done." if found.get("unfinished") else ""
    versions = next((row["versions"] for row in found["rows"] if "versions" in row), "none")
    said = (
        f"Measured at commit {machine['commit']} on {machine['processor']}, {machine['threads']} thread, "
        f"float32.{left}\nSetFit's side: {versions}."
    )
    verdicts = "\n".join(f"- {name}: {verdict(found['rows'], name)}" for name in STEPS)
    wanted = f"The target: the best of our methods is at least as good as SetFit, at {SHARE:g} of its time."
    return f"{HEAD}\n{table(measured)}\n{WORDS}\n{wanted}\n\n{verdicts}\n\n{said}\n"


def summary(rows: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return a line for each side that was measured on a data set; SetFit is the first."""
    here = [row for row in rows if row["data"] == name]
    rival = {row["draw"]: row for row in here if row["side"] == RIVAL}
    sides = sorted({row["side"] for row in here}, key=lambda side: (side != RIVAL, side))
    lines = []
    for side in sides:
        own = [row for row in here if row["side"] == side]
        line = {
            "data": name,
            "side": side,
            "draws": len(own),
            "rows": own[0]["rows"],
            "test rows": own[0]["tested"],
            "SetFit's steps": own[0].get("steps", ""),
            "accuracy": spread([row["accuracy"] for row in own], "{:.3f}"),
        }
        pairs = [(row, rival[row["draw"]]) for row in own if row["draw"] in rival and side != RIVAL]
        if pairs:
            line["to SetFit"] = spread([100 * (a["accuracy"] - b["accuracy"]) for a, b in pairs], "{:+.1f}")
            line["x faster"] = f"{median(b['seconds'] / a['seconds'] for a, b in pairs):.3g}"
        lines.append({**line, "seconds": f"{median(row['seconds'] for row in own):.3g}"})
    return lines


def spread(values: Sequence[float], form: str) -> str:
    """Return the mean, and the sample deviation where there is one."""
    around = f" ± {form.replace('+', '').format(stdev(values))}" if len(values) > 1 else ""
    return form.format(mean(values)) + around


def verdict(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Say which method came nearest to SetFit, of those within the time, and whether it is level."""
    here = [row for row in rows if row["data"] == name]
    rival = {row["draw"]: row for row in here if row["side"] == RIVAL}
    gains, counts = dict[str, float](), dict[str, int]()
    for side in sorted({row["side"] for row in here} - {RIVAL}):
        pairs = [(row, rival[row["draw"]]) for row in here if row["side"] == side and row["draw"] in rival]
        if pairs and median(a["seconds"] / b["seconds"] for a, b in pairs) <= SHARE:
            gains[side] = 100 * mean(a["accuracy"] - b["accuracy"] for a, b in pairs)
            counts[side] = len(pairs)
    if not gains:
        return "not measured yet, or no method within the time."
    best = max(gains, key=lambda side: gains[side])
    planned = DRAWS.get(name, MOST)
    met = "met" if gains[best] >= 0 else "not met"
    met = met if counts[best] >= planned else f"open, {counts[best]} of {planned} draws are done"
    bounded = "" if STEPS[name] < 0 else f"; SetFit had {STEPS[name]} steps only"
    return f"{met}; {best} is {gains[best]:+.1f} points relative to SetFit{bounded}."


if __name__ == "__main__":
    main()
