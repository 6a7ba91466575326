"""Write docs/equal-budgets.md from what `softcue compare` left in benchmarks/results/quality: python
scripts/equal_budgets.py
"""

import json
from pathlib import Path

from softcue.files import write_file
from softcue.studies.compare_table import PROBE_NOTE, compare_markdown

ROOT = Path(__file__).resolve().parent.parent
QUALITY = ROOT / "benchmarks" / "results" / "quality"
HEAD = """# Equal budgets

PASTA, SPT and APT (partly a reconstruction) with their defaults, compared with the linear probe on real text.
All use the same frozen MiniLM encoder.

The command above each table made it. Its `compare.json` is in `benchmarks/results/quality`, and
`python scripts/equal_budgets.py` writes this page from those files. The data sets are in the folder
`$SOFTCUE_DATA`.
"""


def section(file: Path) -> str:
    """One data set: its command, its table, and how far each method is above the probe."""
    result = json.loads(file.read_text(encoding="utf-8"))
    rows = {row["method"]: row for row in result["table"]}
    methods = [name for name in rows if name not in ("majority", "probe")]
    metric = result["metrics"][0]
    probe = rows["probe"]["scores"][metric]
    above = []
    for name in methods:
        score = rows[name]["scores"][metric]
        deviation = max(score["deviation"], probe["deviation"])
        above.append(
            f"{name} +{score['mean'] - probe['mean']:.4f} "
            f"({(score['mean'] - probe['mean']) / deviation:.1f} deviations)"
        )
    command = (
        f"softcue compare {result['data']} --methods {','.join(methods)} --seeds {result['seeds']} "
        f"--rows {ROWS[file.stem]} "
        f"--out comparisons/{file.stem}"
    )
    above_line = (
        f"Difference to the probe in {metric}, and in units of the larger of the two deviations: "
        f"{'; '.join(above)}."
    )
    used = {
        cell["method"]: f"{cell['method']} {cell['made_with']['training']['rate']:g}"
        for cell in result["cells"]
    }
    rates = (
        f"Learning rates: {', '.join(used.values())}, the presets of that commit; today's are in "
        "[presets](presets.md)."
    )
    where = f"Measured at commit {result['commit']} on {result['machine']}."
    shown = compare_markdown(result).replace(PROBE_NOTE, THEN)
    return f"## {result['data']}\n\n```text\n{command}\n```\n\n{shown}\n{above_line} {where} {rates}\n"


ROWS = {"sst2": 8000, "conll04": 922, "stsb": 5749}
THEN = "probe is the head alone, trained in steps: at these commits it was not fitted yet."

if __name__ == "__main__":
    sections = [section(QUALITY / f"{name}.json") for name in ROWS]
    write_file(ROOT / "docs" / "equal-budgets.md", "\n".join([HEAD, *sections]).encode())
