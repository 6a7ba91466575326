"""Adapters on disk and in seats: exact round trips, and refusals with a reason."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from softcue.adapter import Adapter, lift, refuse_foreign, seat_in
from softcue.adapter.store import HEADER, TENSORS
from softcue.cues import Cue
from softcue.errors import AdapterError, RequestError
from softcue.files import write_folder
from tests.adapter.adapter_cases import DIMS, build, edit, make, same

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("method", sorted(Cue.registry))
def test_every_method_comes_back_equal_and_is_saved_again_to_the_same_bytes(tmp_path, method):
    adapter = make(method)
    first = adapter.save(tmp_path / "a")
    loaded = Adapter.load(first)
    assert same(loaded, adapter)
    assert type(loaded.config) is Cue.registry[method].Config
    assert type(loaded.labels) is tuple
    second = loaded.save(tmp_path / "b")
    assert sorted(path.name for path in first.iterdir()) == [HEADER, TENSORS]
    for name in (HEADER, TENSORS):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_new_process_reads_the_same_bits(tmp_path):
    adapter = make()
    adapter.save(tmp_path / "a")
    code = (
        "import sys; from softcue.adapter import Adapter; a = Adapter.load(sys.argv[1]); "
        "print(a.cue['delta'].numpy().tobytes().hex())"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == adapter.cue["delta"].numpy().tobytes().hex()


def test_the_file_is_what_the_safetensors_library_reads_and_writes(tmp_path):
    adapter = make("apt")
    folder = adapter.save(tmp_path / "a")
    read = load_file(folder / TENSORS)
    assert {name for name in read if name.startswith("cue.")} == {f"cue.{name}" for name in adapter.cue}
    assert all(torch.equal(read[f"cue.{name}"], tensor) for name, tensor in adapter.cue.items())
    edit(folder, lambda header: None)
    assert same(Adapter.load(folder), adapter)


def test_loading_and_saving_leave_the_random_numbers_alone(tmp_path):
    adapter, before = make(), torch.get_rng_state()
    Adapter.load(adapter.save(tmp_path / "a"))
    assert torch.equal(torch.get_rng_state(), before)


def test_scores_that_are_not_finite_are_saved_as_null(tmp_path):
    loaded = Adapter.load(make(scores={"pearson": float("nan")}).save(tmp_path / "a"))
    assert loaded.scores == {"pearson": None}


def test_an_adapter_replaces_an_older_one_and_nothing_else(tmp_path):
    make().save(tmp_path / "a")
    newer = make("gpc")
    newer.save(tmp_path / "a")
    assert same(Adapter.load(tmp_path / "a"), newer)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "photo").write_text("")
    with pytest.raises(RequestError, match="has files that are not a softcue adapter"):
        make().save(tmp_path / "home")


def test_a_fine_tuned_checkpoint_holds_both_files_beside_its_own(tmp_path):
    adapter = make("probe", tuned="full", backbone="./encoder")

    def fill(into: Path) -> None:
        (into / "config.json").write_text("{}")
        adapter.write(into)

    folder = write_folder(tmp_path / "full", fill, refuse_foreign)
    assert same(Adapter.load(folder), adapter)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"kind": "score"}, "2 labels for kind 'score'; expected none"),
        ({"labels": ()}, "expected at least one"),
        ({"labels": ("a", "a")}, "labels repeat"),
        ({"labels": ("a", "b", "c")}, r"head.weight is \[2, 16\]; its settings ask for \[3, 16\]"),
        ({"labels": ("a", "\ud800")}, "half a character"),
        ({"labels": ("a", 3)}, r"labels\[1\] is 3; expected a string"),
        ({"pooling": "max"}, "expected one of cls, mean, pooler"),
        ({"tuned": "full"}, "expected './encoder'"),
        ({"backbone": "./encoder"}, "expected a name"),
        ({"backbone": ""}, "backbone is empty"),
        ({"backbone": "a\x1b[2J"}, "no control characters"),
        ({"limit": 0}, "limit is 0"),
        ({"seed": 1.5}, "seed is 1.5; expected a whole number"),
        ({"pair": 1}, "pair is 1; expected true or false"),
        ({"spread": float("nan")}, "spread is None; expected a number"),
        ({"method": "magic"}, "this softcue knows " + ", ".join(sorted(Cue.registry))),
        ({"scores": {"a": torch.ones(1)}}, "scores.a is a Tensor"),
        ({"cue": {}}, "has no tensor cue.delta"),
        ({"cue": {"delta": torch.full((3, 3, 16), torch.nan)}}, "not finite; training diverged"),
        ({"cue": {"delta": torch.zeros(3, 3, 16).half()}}, "expected torch.float32"),
        ({"dims": replace(DIMS, layers=4)}, r"cue.delta is \[3, 3, 16\]; its settings ask for \[4, 3, 16\]"),
    ],
)
def test_save_refuses_what_load_would_refuse_and_writes_nothing(tmp_path, changed, reason):
    with pytest.raises(AdapterError, match=reason) as caught:
        replace(make(), **changed).save(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fingerprint", "dims", "reason"),
    [
        (
            "0f" * 32,
            replace(DIMS, layers=12, hidden=768),
            r"'acme/rte' was trained for bert-tiny \(3 layers, width 16\); this is bert-base \(12, 768\): "
            r"load",
        ),
        ("0f" * 32, replace(DIMS, ff=48), r"bert-tiny \(ff 24\); this is bert-base \(ff 48\)"),
        (
            "0e" * 32,
            DIMS,
            "fingerprint 0f0f0f0f0f0f; this is bert-base with 0e0e0e0e0e0e: the sizes are equal, but the "
            "weights or the tokenizer differ",
        ),
    ],
)
def test_another_backbone_is_refused_by_the_first_difference(fingerprint, dims, reason):
    with pytest.raises(AdapterError, match=reason):
        make().check("acme/rte", "bert-base", fingerprint, dims)


def test_its_own_backbone_is_accepted_under_any_name():
    make().check("acme/rte", "models/bert", "0f" * 32, replace(DIMS))


@pytest.mark.parametrize("method", sorted(Cue.registry))
def test_seating_writes_one_seat_and_lifting_gives_it_back(method):
    adapter, (cue, head) = make(method), build(method)
    before = [parameter.clone() for parameter in (*cue.parameters(), *head.parameters())]
    seat_in(cue, 0, head, 2, adapter)
    assert head.classes.tolist() == [4, 2, 2]
    lifted = lift(cue, 0, head, 2)
    assert same(replace(adapter, cue=lifted[0], head=lifted[1]), adapter)
    for name, parameter in cue.named_parameters():
        assert torch.equal(parameter[0], adapter.cue[name])
    assert torch.equal(head.weight[2, :2], adapter.head["weight"])
    for parameter, old in zip((*cue.parameters(), *head.parameters()), before, strict=True):
        others = [0, 1] if parameter in set(head.parameters()) else [1, 2]
        assert torch.equal(parameter[others], old[others])
    assert torch.equal(head.weight[2, 2:], before[-2][2, 2:])


def test_seating_sets_the_settings_of_the_seat_only():
    adapter, (cue, head) = make("apt", config=Cue.registry["apt"].Config(length=3, dropout=0.5)), build("apt")
    seat_in(cue, 2, head, 0, adapter)
    assert cue.get_buffer("dropout").tolist() == [0.125, 0.125, 0.5]


def test_what_is_lifted_is_a_copy():
    cue, head = build()
    lifted = lift(cue, 0, head, 0)
    with torch.no_grad():
        cue.get_parameter("delta").zero_()
        head.weight.zero_()
    assert lifted[0]["delta"].abs().sum() > 0
    assert lifted[1]["weight"].abs().sum() > 0
    assert not lifted[1]["weight"].requires_grad


@pytest.mark.parametrize(
    ("method", "classes", "kind", "reason"),
    [
        ("spt", (2, 2, 2), "classify", "is for pasta / classify / cls; these seats are for spt"),
        ("pasta", (2, 2, 2), "tag", "these seats are for pasta / tag"),
        ("pasta", (1, 1, 1), "classify", "has 2 classes; the head has room for 1"),
    ],
)
def test_seats_of_another_sort_are_refused_and_untouched(method, classes, kind, reason):
    cue, head = build(method, classes=classes, kind=kind)
    before = [parameter.clone() for parameter in (*cue.parameters(), *head.parameters())]
    with pytest.raises(AdapterError, match=reason):
        seat_in(cue, 0, head, 0, make())
    assert all(
        torch.equal(a, b) for a, b in zip((*cue.parameters(), *head.parameters()), before, strict=True)
    )


def test_a_cue_of_another_size_is_refused():
    cue = Cue.registry["pasta"](DIMS, Cue.registry["pasta"].Config(slots=2), 1)
    with pytest.raises(AdapterError, match=r"cue has .*3, 3, 16.*; the seat has .*3, 2, 16"):
        seat_in(cue, 0, build()[1], 0, make())
