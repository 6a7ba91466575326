"""Write docs/equal-budgets.md from what `softcue compare` left in benchmarks/results/quality: python
scripts/equal_budgets.py
"""

import json
from pathlib import Path

from softcue.files import write_file
from softcue.studies.compare_table import compare_markdown

ROOT = Path(__file__).resolve().parent.parent
QUALITY = ROOT / "benchmarks" / "results" / "quality"
HEAD = """# Equal budgets

PASTA, SPT and APT with their defaults against the linear probe, on real text, over the one frozen MiniLM
encoder. Each table is what the command above it wrote as `compare.json`, kept in
`benchmarks/results/quality`; `python scripts/equal_budgets.py` writes this page from those files.
The data sets are benchmarks under `$SOFTCUE_DATA`.
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
        f"Above the probe in {metric}, in units of the larger of the two deviations: {'; '.join(above)}."
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
    return (
        f"## {result['data']}\n\n```text\n{command}\n```\n\n{compare_markdown(result)}\n{above_line} {where} "
        f"{rates}\n"
    )


ROWS = {"sst2": 8000, "conll04": 922, "stsb": 5749}

if __name__ == "__main__":
    sections = [section(QUALITY / f"{name}.json") for name in ROWS]
    write_file(ROOT / "docs" / "equal-budgets.md", "\n".join([HEAD, *sections]).encode())
