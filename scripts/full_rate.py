"""Tries learning rates of full fine-tuning on development sets, for its preset: python -m
scripts.full_rate --data-root DATA
"""

import argparse
import json
from pathlib import Path

from scripts.check_presets import RESULTS
from scripts.find_presets import SIZES
from softcue.base import open_base
from softcue.files import write_file
from softcue.tasks import open_data
from softcue.training.full import METHOD, train_full
from softcue.training.job import Job

SETS, RATES = ("sst2", "atis_intent", "stsb"), (5e-5, 1.5e-4, 4.5e-4)
RESULT = RESULTS / "full_rate.json"


def main() -> None:
    """One seed, a tenth of train selects; each run is a training of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder with a folder for each data set"
    )
    given = parser.parse_args()
    base, (rows, epochs) = open_base("minilm"), SIZES["large"]
    table = []
    for name in SETS:
        data = open_data(name, data_root=given.data_root, limit={"train": rows})
        for rate in RATES:
            job = Job(data, METHOD, training={"rate": rate, "epochs": epochs, "patience": 0}, from_train=True)
            table.append({"data": name, "rate": rate, "selection": train_full(job, base).scores["selection"]})
            write_file(RESULT, json.dumps(table, indent=1).encode())


if __name__ == "__main__":
    main()
