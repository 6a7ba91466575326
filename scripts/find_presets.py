"""Finds the learning rate of each method's preset, by kind and size of data, with packed sweeps
over a development half of the data sets.

    python scripts/find_presets.py --data-root DATA --out found            # hours; the same command goes on
    after a kill
    python scripts/find_presets.py --data-root DATA --out found --quick    # minutes; shows that it works,
    finds nothing

Writes OUT/presets.toml and OUT/presets.json (commands and every score), which can take the places of the two
files in softcue/. What softcue/presets.json has of other methods and kinds stays. The sets of HELD_BACK are
for checking what was found (scripts/check_presets.py), and are never read here.
"""

import argparse
import json
import math
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import mean
from typing import Any

from softcue import __version__
from softcue.base import Base, open_base
from softcue.cues import Cue
from softcue.errors import SoftcueError
from softcue.files import read_json, write_file
from softcue.studies.live import sweep_board
from softcue.studies.sweep import sweep
from softcue.studies.table import file_name
from softcue.training.settings import SMALL, preset

# by kind and size; sets of long texts are left out, for their hours
DEVELOPMENT: dict[str, dict[str, tuple[str, ...]]] = {
    "classify": {"large": ("sst2", "atis_intent"), "small": ("sst2",)},
    "tag": {"large": ("mit_movie", "atis_slots"), "small": ("conll04",)},
    # the only one of its kind: found here, it cannot be checked on another
    "score": {"large": ("stsb",), "small": ("stsb",)},
    "choice": {"small": ("copa_mc",)},  # likewise
}
HELD_BACK = {"classify": ("cola", "qqp", "clinc150"), "tag": ("conll2003", "wnut17", "gum")}
Key = tuple[str, str, str]  # method, kind, size
# a head that is fitted has no rate to find
METHODS = tuple(sorted(name for name, cls in Cue.registry.items() if not cls.frozen_outputs))
SIZES = {"large": (2_000, 4), "small": (400, 10)}  # training rows and epochs
QUICK = {"large": (40, 1)}
FACTORS = (0.3, 1.0, 3.0)  # of the preset's rate
MARKER = "# Found by scripts/find_presets.py"
BEYOND = 3.0  # how far rates go on where the best is the last that was tried
NOISE = {"large": 0.01, "small": 0.03}  # differences that one seed on 200 or 40 selection rows cannot show


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, find, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data-root", type=Path, required=True, help="folder with a folder for each data set"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of what is found, and of finished runs"
    )
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--methods", default=",".join(METHODS), help="names with commas between")
    parser.add_argument("--kinds", default=",".join(DEVELOPMENT), help="names with commas between")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="40 rows, one epoch, one data set of each kind")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.kinds.split(",")) - set(DEVELOPMENT))
    if unknown:
        sys.exit(
            f"find_presets: kind {', '.join(unknown)} is unknown; expected some of {', '.join(DEVELOPMENT)}"
        )
    told = {str(given.data_root): "DATA", str(given.out): "FOUND"}
    command = shlex.join(
        ["python", "scripts/find_presets.py", *(told.get(word, word) for word in arguments or sys.argv[1:])]
    )
    try:
        base, found = open_base(given.backbone, given.precision), earlier(given.out)
        for method in given.methods.split(","):
            for kind in given.kinds.split(","):
                for size, (rows, epochs) in (QUICK if given.quick else SIZES).items():
                    sets = DEVELOPMENT[kind].get(size, ())[: 1 if given.quick else None]
                    if sets:
                        one = find(
                            method,
                            kind,
                            size,
                            sets,
                            rows,
                            epochs,
                            given.seeds,
                            base,
                            given.data_root,
                            given.out,
                        )
                        found[method, kind, size] = {**one, "command": command}
                        save(found, base, given.out)
    except SoftcueError as error:
        sys.exit(f"find_presets: {error}")


def earlier(out: Path) -> dict[Key, dict[str, Any]]:
    """What OUT, or else what is shipped, has already."""
    shipped = Path(str(files("softcue").joinpath("presets.json")))
    file = out / "presets.json" if (out / "presets.json").exists() else shipped
    return (
        {(one["method"], one["kind"], one["size"]): one for one in read_json(file, SoftcueError)["found"]}
        if file.exists()
        else {}
    )


def find(
    method: str,
    kind: str,
    size: str,
    sets: Sequence[str],
    rows: int,
    epochs: int,
    seeds: int,
    base: Base,
    root: Path,
    out: Path,
) -> dict[str, Any]:
    """The best rate over `sets`, and the scores of all that were tried; where the best is an
    end, some beyond it are tried too.
    """
    usual = preset(method, "", rows, {}).rate  # the method's own, whatever its tables by kind say
    rates = [float(f"{usual * factor:.4g}") for factor in FACTORS]
    scores: dict[float, dict[str, float]] = {}
    while rates:
        place = out / "sweeps" / file_name(f"{method}-{kind}-{size}-from-{rates[0]:g}")
        with sweep_board() as watch:
            result = sweep(
                list(sets),
                [method],
                place,
                grid={"rate": rates},
                seeds=seeds,
                backbone=base,
                settings={"epochs": epochs, "patience": 0},
                root=root,
                rows=rows,
                watch=watch,
                say=lambda line: print(line, file=sys.stderr),
            )
        for own in result.data:
            for row in own["table"]:
                scores.setdefault(row["rate"], {})[own["data"]] = (
                    float("-inf") if row["mean"] is None else row["mean"]
                )
        rates = beyond(scores)
    best = best_rate(scores, usual, NOISE[size])
    print(
        f"{method} {kind} {size}: rate {best:g}, {mean(scores[best].values()):.4f} on {', '.join(sets)}",
        flush=True,
    )
    table = [
        {
            "rate": rate,
            "mean": finite(mean(by_set.values())),
            "by_set": {k: finite(v) for k, v in by_set.items()},
        }
        for rate, by_set in sorted(scores.items())
    ]
    return {
        "method": method,
        "kind": kind,
        "size": size,
        "rows": rows,
        "epochs": epochs,
        "rate": best,
        "tried": table,
    }


def best_rate(scores: Mapping[float, Mapping[str, float]], usual: float, noise: float) -> float:
    """Of those whose mean over data sets is the best or within `noise` of it, the one nearest
    to the usual rate.
    """
    means = {rate: mean(by_set.values()) for rate, by_set in scores.items()}
    good = [rate for rate in sorted(means) if means[rate] >= max(means.values()) - noise]
    return min(good, key=lambda rate: round(abs(math.log(rate / usual)), 6))


def beyond(scores: Mapping[float, Mapping[str, float]]) -> list[float]:
    """A rate beyond the end that is best, once; none where the best lies between others."""
    tried = sorted(scores)
    best = max(tried, key=lambda rate: mean(scores[rate].values()))
    if len(tried) > len(FACTORS):  # more than a first round
        return []
    return [
        float(f"{best * step:.4g}")
        for step, end in ((BEYOND, tried[-1]), (1 / BEYOND, tried[0]))
        if best == end
    ]


def finite(value: float) -> float | None:
    """None for minus infinity, which JSON has not: a run diverged."""
    return value if value > float("-inf") else None


def save(found: Mapping[Key, Mapping[str, Any]], base: Base, out: Path) -> None:
    """Both files, after each finding."""
    shipped = files("softcue").joinpath("presets.toml").read_text(encoding="utf-8")
    write_file(out / "presets.toml", with_tables(shipped, list(found.values()), base.backbone.name).encode())
    evidence = {
        "softcue": __version__,
        "backbone": base.backbone.name,
        "development": DEVELOPMENT,
        "held_back": HELD_BACK,
        "found": list(found.values()),
    }
    write_file(out / "presets.json", json.dumps(evidence, indent=1).encode())


def with_tables(shipped: str, found: Sequence[Mapping[str, Any]], backbone: str) -> str:
    """presets.toml with a table for each (method, kind), and one for small data below it, in
    place of those found before.

    A table keeps what this script does not find: `head_rate`, `examples` and `length`.
    """
    own, before = shipped.partition(MARKER)[0].rstrip(), tomllib.loads(shipped)
    rates = {(one["method"], one["kind"], one["size"]): one["rate"] for one in found}
    lines = [
        f"{MARKER} with {backbone}; the evidence is in presets.json beside this file.",
        f"# METHOD.KIND, and below {SMALL:,} training rows METHOD.KIND.small.",
    ]
    for method, kind in dict.fromkeys((method, kind) for method, kind, _ in rates):
        for size, name in (("large", f"{method}.{kind}"), ("small", f"{method}.{kind}.small")):
            if (method, kind, size) in rates:
                lines += ["", f"[{name}]", f"rate = {rates[method, kind, size]:g}"]
                if size == "large":
                    own_table = before.get(method, {}).get(kind, {})
                    lines += [
                        f"{kept} = {own_table[kept]:_}"
                        for kept in ("head_rate", "examples", "length")
                        if kept in own_table
                    ]
    made = "\n".join([own, "", *lines, ""])
    for (method, kind, size), rate in rates.items():
        assert _rate_of(made, method, kind, size) == rate
    return made


def _rate_of(text: str, method: str, kind: str, size: str) -> float:
    table = tomllib.loads(text)[method][kind]
    return float(table["small"]["rate"] if size == "small" else table["rate"])


if __name__ == "__main__":
    main()
