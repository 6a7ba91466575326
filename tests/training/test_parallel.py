"""Several processes: they end with the numbers of one, rank 0 speaks alone, and what they
cannot train is refused.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from softcue.adapter import Adapter
from softcue.encoder.load import load_encoder
from softcue.errors import RequestError
from softcue.training import parallel
from softcue.training.parallel import ALONE, Ranks, leads, one_voice, own_device, processes
from tests.cli.shell import Shell, make_place, make_shell, train  # noqa: F401  (fixtures)
from tests.test_api import written
from tests.test_layout import PACKAGE
from tests.tiny_base import base_folder, tiny_data

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--")
SAME = ("epochs=3", "batch=7", "rate=1e-3", "backbone_dropout=false", "head_dropout=0.0", "patience=1")


def start_command(*launcher: str, words: tuple[str | Path, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "softcue", "train", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def numbers(folder: Path) -> dict[str, torch.Tensor]:
    """All that was trained, but for the biases of keys: no gradient but rounding reaches them,
    and Adam makes whole steps of that.
    """
    encoder = load_encoder(folder / "encoder").encoder
    found = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    for name, tensor in found.items():
        if name.endswith("qkv.bias"):
            tensor[encoder.dims.hidden : 2 * encoder.dims.hidden] = 0
    return {**found, **{f"head {name}": tensor for name, tensor in Adapter.load(folder).head.items()}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_two_processes_end_with_the_numbers_of_one(kind: str, tmp_path: Path) -> None:
    # shares of 4 and 3, and a last batch of one: nothing for the second
    written(tiny_data(kind, train=57), tmp_path / "data")
    shared = [word for setting in SAME for word in ("--set", setting)]
    words = (
        tmp_path / "data",
        "--method",
        "full",
        "--backbone",
        base_folder(),
        "--precision",
        "float32",
        "--json",
        *shared,
    )
    one = start_command("-m", words=(*words, "--out", tmp_path / "one"))
    two = start_command(*TORCHRUN, words=(*words, "--out", tmp_path / "two", "--log", tmp_path / "log"))
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    # one voice: two objects would be no JSON
    alone, together = json.loads(one.stdout), json.loads(two.stdout)
    assert together["scores"] == pytest.approx(alone["scores"], abs=1e-4)
    events = [json.loads(line)["event"] for line in (tmp_path / "log" / "log.jsonl").read_text().splitlines()]
    assert (events[0], events[-1], events.count("start"), events.count("finish")) == ("start", "finish", 1, 1)
    ours, theirs = numbers(tmp_path / "two"), numbers(tmp_path / "one")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    begun = load_encoder(base_folder()).encoder.state_dict()
    assert (
        max(
            float((theirs[name] - tensor).abs().max())
            for name, tensor in begun.items()
            if "qkv.bias" not in name
        )
        > 1e-3
    )


@pytest.mark.slow
def test_torchrun_with_another_method_ends_with_one_line_of_rank_0(tmp_path: Path) -> None:
    written(tiny_data(), tmp_path / "data")
    done = start_command(
        *TORCHRUN,
        words=(
            tmp_path / "data",
            "--method",
            "pasta",
            "--backbone",
            base_folder(),
            "--out",
            tmp_path / "out",
        ),
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("softcue:")]
    assert done.returncode != 0
    assert told == [
        "softcue: torchrun started 2 processes, but method pasta trains in one only; give method full, "
        "or run it without torchrun"
    ], done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As torchrun starts rank 0 of 2."""
    for name, value in {
        parallel.LAUNCHED: "none",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "spt"), "method spt trains in one only; give method full, or run it without torchrun"),
        (
            ("--method", "full", "--checkpoint", "kept"),
            "a run with checkpoints trains in one only; leave checkpoints (--checkpoint) out",
        ),
        (
            ("--method", "full", "--device", "cuda:0"),
            "torchrun started 2 processes here with device 'cuda:0'",
        ),
    ],
)
def test_what_several_processes_cannot_train_is_refused(
    words: tuple[str, ...], told: str, launched: pytest.MonkeyPatch, shell: Shell, tmp_path: Path
) -> None:
    assert told in shell.refused(*train(*words, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_comparison_is_refused_as_well(launched: pytest.MonkeyPatch, shell: Shell, tmp_path: Path) -> None:
    words = ("--methods", "pasta", "--backbone", "backbone", "--precision", "float32")
    assert "run it without torchrun" in shell.refused(
        "compare", "data/classify", *words, "--out", tmp_path / "out"
    )


def test_other_ranks_are_silent_and_late_with_a_mistake(
    launched: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    launched.setattr("time.sleep", waited.append)
    launched.setenv("RANK", "1")

    def mistaken() -> None:
        with one_voice():
            print("a line")
            print("a warning", file=sys.stderr)
            raise RequestError("a mistake")

    with pytest.raises(RequestError, match="a mistake"):
        mistaken()
    assert capsys.readouterr() == ("", "")
    assert waited == [parallel.GRACE]


def test_variables_of_another_launcher_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(parallel.LAUNCHED, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert processes() == 1
    assert leads()
    assert own_device("cuda") == "cuda"


def test_each_rank_takes_its_gpu_where_there_are_enough(launched: pytest.MonkeyPatch) -> None:
    launched.setattr("torch.cuda.device_count", lambda: 2)
    launched.setenv("LOCAL_RANK", "1")
    assert own_device("cuda") == "cuda:1"
    assert own_device("cpu") == "cpu"
    launched.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(RequestError, match=r"torch finds 1 GPUs; .*lower --nproc-per-node"):
        own_device("cuda")


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
def test_shares_are_the_batch_and_a_rank_without_one_has_no_weight(rows: int) -> None:
    shares = [Ranks(rank, 3).share(range(rows)) for rank in range(3)]
    assert sorted(item for items, weight in shares for item in items if weight) == list(range(rows))
    assert all(items for items, _ in shares)
    assert {weight for _, weight in shares} <= {0.0, 1.0}
    assert ALONE.share(range(rows)) == (list(range(rows)), 1.0)
