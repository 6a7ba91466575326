"""Rewrite the scores in docs/multilabel.md from benchmarks/results/multilabel:
python -m scripts.multilabel_page
"""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.common import table
from scripts.multilabel import RESULTS
from scripts.readme_table import rewritten
from softcue.files import write_file
from softcue.training.full import METHOD as FULL

PAGE = RESULTS.parents[2] / "docs" / "multilabel.md"
BEGIN = "<!-- scores:begin, written by python -m scripts.multilabel_page -->"
END = "<!-- scores:end -->"


def block() -> str:
    """Return the page's tables, one for each file of results, with the command of each."""
    results = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))]
    return "\n\n".join((BEGIN, *map(section, results), END))


def section(result: Mapping[str, Any]) -> str:
    """Return one data set's table and what was measured."""
    rows = result["rows"]
    cap, source = rows["train"] + rows["selection"], result["data"].removesuffix("-types")
    methods = ",".join(method for method, own in result["table"].items() if "commit" in own)
    told = (
        f"{source}, {rows['train']:,} training rows, {rows['selection']:,} rows that choose the step and the "
        f"threshold, {rows['reported']:,} reported rows, {seeds(result)} seeds: mean and sample deviation."
    )
    asked = f"--sets {source} --rows {cap} --methods {methods}"
    command = f"python -m scripts.multilabel --data-root DATA {asked}"
    lines = [row(method, own, result) for method, own in result["table"].items()]
    return f"{told}\n\n```bash\n{command}\n```\n\n{table(lines)}\n\n{finding(result)}"


def finding(result: Mapping[str, Any]) -> str:
    """Return a sentence on the best method beside full fine-tuning."""
    metric = result["metrics"][0]
    mean = {method: own["scores"][metric]["mean"] for method, own in result["table"].items()}
    full = mean.pop(FULL)
    best = max(mean, key=lambda method: mean[method])
    return f"The best method, {best}, is {100 * (full - mean[best]):.2f} points below full fine-tuning."


def seeds(result: Mapping[str, Any]) -> int:
    """Return how many seeds each method was trained with."""
    return max(len(own["scores"][result["metrics"][0]]["seeds"]) for own in result["table"].values())


def row(method: str, own: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, str]:
    """Return one method's line: its scores, and how far its micro-F1 is from full fine-tuning's."""
    scores, first = own["scores"], result["metrics"][0]
    full = result["table"][FULL]["scores"][first]["mean"]
    told = {name: f"{score['mean']:.3f} ± {score['deviation']:.3f}" for name, score in scores.items()}
    return {
        "method": method,
        **{name: told[name] for name in result["metrics"]},
        f"{first} minus that of full": f"{scores[first]['mean'] - full:+.4f}",
    }


def main() -> None:
    """Rewrite the page in place."""
    write_file(PAGE, rewritten(PAGE.read_text(encoding="utf-8"), block(), BEGIN, END).encode())


if __name__ == "__main__":
    main()
