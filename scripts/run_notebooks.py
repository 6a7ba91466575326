"""Run the notebooks of docs/notebooks and write what they print into them: `python -m scripts.run_notebooks`.

It needs nbclient and ipykernel, which the extra `test` brings.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
SECONDS = 300  # a cell that takes longer hangs


def main() -> None:
    """Run every notebook and write it with its outputs."""
    import nbformat

    for path in sorted(FOLDER.glob("*.ipynb")):
        print(path.name, flush=True)
        nbformat.write(executed(path), path)


def executed(path: Path) -> Any:
    """Return a notebook with the outputs of a run in an empty folder; nbclient's error where a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    root = str(FOLDER.parents[1])
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            resources={"metadata": {"path": folder}},
            record_timing=False,
        )
        client.execute(env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"})
    return notebook


if __name__ == "__main__":
    main()
