"""The report of `softcue eval`: the most wrong rows on the screen, and two files."""

import json
from pathlib import Path

from rich.table import Table

from softcue.answering.evaluation import Evaluation
from softcue.cli.inspect import make_folder
from softcue.cli.lines import print_line, print_table
from softcue.errors import one_line
from softcue.files import write_file
from softcue.inspection.drawing import draw_report, need_plots
from softcue.studies.results import check_results

FILES = "report.json", "report.png"
WIDEST = 60  # characters of a text in the table; report.json has all of it


def check_report(folder: Path) -> None:
    """Raise RequestError, before any work, if the report cannot be written to this folder."""
    need_plots()
    check_results(folder, FILES, ("softcue", "report"))


def write_report(result: Evaluation, folder: Path, quiet: bool) -> None:
    """Write both files and, unless `quiet`, print the rows with the most wrong answers."""
    values = {"softcue": "report", **result.to_json()}
    picture = draw_report(result.report)
    make_folder(folder)
    write_file(folder / FILES[0], (json.dumps(values, indent=1) + "\n").encode())
    write_file(folder / FILES[1], picture)
    if quiet:
        return
    table = Table("row", "text", "truth", "answer", "how wrong")
    for row in result.worst:
        text = " | ".join(" ".join(row[n]) if n == "tokens" else row[n] for n in TEXTS if n in row)
        shown = (text, *(_told(row[name]) for name in ("truth", "answer")))
        cells = (one_line(one if len(one) <= WIDEST else one[: WIDEST - 3] + "...") for one in shown)
        table.add_row(one_line(row["where"]), *cells, f"{row['how_wrong']:.3f}")
    if result.worst:
        print_table(table)
    print_line(f"saved {folder / FILES[0]} and {FILES[1]}")


TEXTS = "text", "text_pair", "tokens"


def _told(answer: object) -> str:
    return " ".join(answer) if isinstance(answer, list) else str(answer)
