"""Counts without a bound, numbers without a size and objects of a wrong type are refused at
once, in words.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softcue import api
from softcue.adapter import Adapter
from softcue.answering.predict import Predictor
from softcue.base import open_base
from softcue.errors import BackboneError, SoftcueError
from softcue.studies.compare import compare
from softcue.studies.search import read_budget
from softcue.studies.space import grid_points, random_points, read_grid, read_ranges
from softcue.studies.sweep import sweep
from softcue.tasks import open_data
from softcue.training.job import Job
from softcue.training.jobs import train_jobs
from tests.studies.test_compare import run_cli
from tests.tiny_base import base_folder, tiny_base, tiny_data

HUGE = "9" * 400
FORTY = [round(0.01 + i / 100, 2) for i in range(40)]
GRID = {"dropout": FORTY, "rate": FORTY, "warmup": FORTY, "head_rate": FORTY, "decay": FORTY}


def small(**changes: Any) -> Callable[[Path], Any]:
    return lambda out: sweep([tiny_data()], ["pasta"], out, **{"backbone": tiny_base(), **changes})


def probe() -> Adapter:
    return train_jobs([Job(tiny_data(), "bitfit", training={"epochs": 1})], tiny_base())[0]


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "seeds of a sweep": (small(seeds=10**9), "seeds 1,000,000,000 came; expected 1 to 1,000"),
    "seeds of a comparison": (
        lambda out: compare(tiny_data(), ["pasta"], out, seeds=10**9, backbone=tiny_base()),
        "seeds 1,000,000,000 came",
    ),
    "draws": (small(draws=10**9, grid={"rate": [1e-3, 1e-2]}), "random 1,000,000,000 came"),
    "a grid of 40^5 points": (small(grid=GRID), "the grid has 102,400,000 points; expected at most 10,000"),
    "runs in all": (
        small(grid={"rate": FORTY, "dropout": FORTY}, seeds=900),
        "are 1,440,000; expected at most 100,000",
    ),
    "one string for a list": (
        lambda out: sweep("trec", ["pasta"], out, backbone=tiny_base()),
        "data is a str .'trec'.; expected a list",
    ),
    "one path for a list": (
        lambda out: sweep(Path("trec"), ["pasta"], out, backbone=tiny_base()),
        "data is a PosixPath ",
    ),  # type: ignore[arg-type]
    "one data set for a list": (
        lambda out: sweep(tiny_data(), ["pasta"], out, backbone=tiny_base()),
        "data is a Data ",
    ),  # type: ignore[arg-type]
    "one row for a list": (
        lambda out: sweep({"text": "a"}, ["pasta"], out, backbone=tiny_base()),
        "data is a dict ",
    ),  # type: ignore[arg-type]
    "requests as one text": (lambda out: api.predict(out, "an owl"), "str came as requests; expected a list"),  # type: ignore[arg-type]
    "requests as one request": (lambda out: api.predict(out, {"text": "a"}), "dict came as requests"),  # type: ignore[arg-type]
    "requests as nothing": (lambda out: api.predict(out, None), "NoneType came as requests"),  # type: ignore[arg-type]
    "a predictor of one text": (lambda out: Predictor(tiny_base(), {})("an owl"), "str came as requests"),  # type: ignore[arg-type]
    "a request that is a number": (
        lambda out: api.predict(probe(), [7], backbone=tiny_base()),
        "request 0 is 7",
    ),  # type: ignore[list-item]
    "train on a list of texts": (
        lambda out: api.train(["a"], backbone=tiny_base()),
        "list came as data; expected a path",
    ),
    "train on a list without labels": (
        lambda out: api.train([{"text": "a"}], backbone=tiny_base()),
        "list:1: 'label' missing",
    ),
    "train on a number": (lambda out: api.train(7, backbone=tiny_base()), "int came as data"),
    "data as bytes": (lambda out: open_data(b"x"), "bytes came as data"),
    "an adapter as a list": (lambda out: Adapter.load([]), "list came as an adapter"),  # type: ignore[arg-type]
    "evaluate nothing": (lambda out: api.evaluate(None, tiny_data()), "NoneType came as an adapter"),  # type: ignore[arg-type]
    "a backbone as a dict": (lambda out: open_base({}), "dict came as a backbone"),  # type: ignore[arg-type]
    "a rate of 400 digits": (
        lambda out: api.train(tiny_data(), backbone=tiny_base(), settings={"rate": int(HUGE)}),
        "rate is a whole number of about 400 digits; expected a number",
    ),
    "epochs of 400 digits": (
        lambda out: api.train(tiny_data(), backbone=tiny_base(), settings={"epochs": int(HUGE)}),
        "epochs is a whole number of about 400 digits; expected a whole number up to",
    ),
    "a point of 400 digits": (
        small(grid=read_grid([f"rate={HUGE}"])),
        "rate is a whole number of about 400 digits",
    ),
    "a range of 400 digits": (lambda out: read_ranges([f"rate=1..{HUGE}"]), "is not NAME=LOW..HIGH"),
    "a seed of 5,000 digits": (
        lambda out: api.train(tiny_data(), backbone=tiny_base(), seed=10**5_000),
        "seed a whole number of about 5,000 digits came",
    ),
    "a limit of 5,000 digits": (
        lambda out: compare(tiny_data(), ["pasta"], out, backbone=tiny_base(), limit=10**5_000),
        "limit a whole number of about 5,000 digits came",
    ),
    "a rate of 5,000 digits": (
        lambda out: api.train(tiny_data(), backbone=tiny_base(), settings={"rate": 10**5_000}),
        "rate is a whole number of about 5,000 digits",
    ),
    "minutes of 400 digits": (
        lambda out: api.train(tiny_data(), backbone=tiny_base(), auto=10**400),
        "auto a whole number of about 400 digits came",
    ),
    "minutes without an end": (
        lambda out: api.train(tiny_data(), backbone=tiny_base(), auto=1e308),
        "auto 1e.308 came; expected minutes, more than 0 and at most 100,000",
    ),
    "a folder that is a number": (
        lambda out: compare(tiny_data(), ["pasta"], 7, backbone=tiny_base()),  # type: ignore[arg-type]
        "out is a int .7.; expected a path",
    ),
    "a root that is a number": (
        lambda out: api.train("trec", backbone=tiny_base(), root=7),  # type: ignore[arg-type]
        "the data root is a int .7.; expected a path",
    ),
    "methods as one word": (
        lambda out: compare(tiny_data(), "pasta", out, backbone=tiny_base()),
        "methods is a str .'pasta'.; expected a list",
    ),
    "epochs without an end": (
        lambda out: api.train(tiny_data(), backbone=tiny_base(), settings={"epochs": 10**9}),
        "epochs is 1000000000; expected less than 100001",
    ),
    "a prefix that fills the memory": (
        lambda out: api.train(tiny_data(), backbone=tiny_base(), method="spt", settings={"length": 65_536}),
        "length is 65536; expected less than 4097",
    ),
    "a grid of too many values": (
        lambda out: read_grid(["rate=" + ",".join(map(str, range(1, 20_000)))]),
        "--grid gives 19,999 values of rate; expected at most 10,000",
    ),
    "a budget of 5,000 digits": (lambda out: read_budget("9" * 5_000), r"budget '9+\.\.\. came"),
    "a budget without an end": (lambda out: read_budget("9" * 5_000 + "h"), r"budget '9+\.\.\. came"),
}


@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_it_is_refused_at_once(fault: str, tmp_path: Path) -> None:
    ask, reason = REFUSED[fault]
    began = time.monotonic()
    with pytest.raises(SoftcueError, match=reason) as caught:
        ask(tmp_path / "out")
    assert time.monotonic() - began < 5
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("flag", ["rate", "epochs", "clip", "dropout", "slots"])
def test_the_command_line_says_so_too(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "an owl", "label": "bird"}\n' * 30)
    common = [str(tmp_path / "rows.jsonl"), "--backbone", str(base_folder()), "--out", str(tmp_path / "out")]
    for digits in (HUGE, HUGE * 20):
        assert run_cli(monkeypatch, "train", *common, "--set", f"{flag}={digits}") == 2
        assert run_cli(monkeypatch, "sweep", *common, "--method", "pasta", "--grid", f"{flag}={digits}") == 2
        assert (
            run_cli(
                monkeypatch,
                "sweep",
                *common,
                "--method",
                "pasta",
                "--range",
                f"{flag}=0..{digits}",
                "--random",
                "2",
            )
            == 2
        )
    assert "Traceback" not in capsys.readouterr().err


def test_the_most_that_is_allowed_is_built_quickly() -> None:
    began = time.monotonic()
    assert (
        len(grid_points(["pasta"], {"rate": list(range(1, 101)), "dropout": list(range(100))}, {})) == 10_000
    )
    assert len(random_points(["pasta"], {}, read_ranges(["rate=1e-9..1e-1"]), 10_000, {})) > 9_000
    assert time.monotonic() - began < 10


def test_a_tokenizer_with_more_ids_than_the_encoder_has_is_refused_on_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else training ends with an index out of range as soon as the text has such a token."""
    monkeypatch.setattr("softcue.text.tokens.Text.highest", 10**6)
    with pytest.raises(
        BackboneError, match=r"gives ids up to 1,000,000, but its encoder has [\d,]+ word vectors"
    ):
        open_base(str(base_folder()))


@pytest.mark.parametrize(
    ("labels", "warned"), [(("1.0", "0.0"), True), (("0.5", "1.0"), False), (("1", "0"), False)]
)
def test_whole_numbers_with_a_fraction_are_said_to_be_scores(
    labels: tuple[str, str], warned: bool, tmp_path: Path
) -> None:
    rows = "".join(f'{{"text": "an owl {i}", "label": {labels[i % 2]}}}\n' for i in range(30))
    (tmp_path / "rows.jsonl").write_text(rows)
    data = open_data(tmp_path / "rows.jsonl")
    assert (
        any("are read as scores" in warning and "--kind classify" in warning for warning in data.warnings)
        == warned
    )
    assert not any(
        "are read as scores" in warning
        for warning in open_data(tmp_path / "rows.jsonl", kind="score").warnings
    )
