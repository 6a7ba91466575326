"""An adapter's folder: what softcue wrote may be written over; whatever else lies there
survives, and is named before any work.
"""

import json
import os
from pathlib import Path

import pytest

from softcue.adapter import Adapter, check_place
from softcue.adapter.folder import HEADER, TENSORS, foreign
from softcue.errors import RequestError
from softcue.training.full import train_full
from softcue.training.job import Job
from tests.adapter.adapter_cases import make, same
from tests.tiny_base import tiny_base, tiny_data
from tests.training.kill_cases import contents

PEFT = {"peft_type": "LORA", "base_model_name_or_path": "bert-base-uncased", "r": 8}


def others_folder(folder: Path) -> Path:
    """A PEFT adapter with a thesis beside it."""
    folder.mkdir(parents=True)
    (folder / HEADER).write_text(json.dumps(PEFT))
    (folder / TENSORS).write_bytes(b"theirs")
    (folder / "thesis.txt").write_text("precious")
    return folder


def refused(folder: Path) -> str:
    """What both the check before training and saving after it say; nothing there changes."""
    before = contents(folder)
    told = []
    for attempt in (check_place, make().save):
        with pytest.raises(RequestError) as caught:
            attempt(folder)
        told.append(str(caught.value))
        assert contents(folder) == before
    assert told[0] == told[1]
    return told[0]


def test_an_adapter_of_peft_and_what_lies_beside_it_survive(tmp_path: Path) -> None:
    folder = others_folder(tmp_path / "theirs")
    assert f"{HEADER}, {TENSORS}, thesis.txt" in refused(folder)
    (folder / "thesis.txt").unlink()
    assert "has files that are not a softcue adapter's" in refused(folder)


@pytest.mark.parametrize(
    "name",
    [
        "thesis.txt",
        ".hidden",
        "encoder/config.json",
        "encoder/model.safetensors",
        "runs/log.jsonl",
        "adapter_model.safetensors.bak",
    ],
)
def test_whatever_lies_beside_an_adapter_of_ours_is_named_and_survives(name: str, tmp_path: Path) -> None:
    folder = make().save(tmp_path / "ours")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("precious")
    told = refused(folder)
    assert f"'{name.partition('/')[0]}" in told and HEADER not in told


def test_an_empty_folder_in_an_adapter_and_links_are_not_ours_either(tmp_path: Path) -> None:
    folder = make().save(tmp_path / "ours")
    (folder / "notes").mkdir()
    assert "notes/" in refused(folder)
    (folder / "notes").rmdir()
    (folder / "encoder").symlink_to(tmp_path)
    assert "encoder" in refused(folder)


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b"null", b'{"library_name": "peft"}', b'{"library_name": ["softcue"]}', b"\xff"],
)
def test_a_header_that_is_not_softcues_leaves_nothing_to_be_written_over(
    header: bytes, tmp_path: Path
) -> None:
    folder = make().save(tmp_path / "ours")
    (folder / HEADER).write_bytes(header)
    assert HEADER in refused(folder)


def test_a_header_that_is_no_file_or_too_large_is_not_ours(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "folder" / HEADER)
    assert foreign(tmp_path / "folder") == [f"{HEADER}/"]
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / HEADER).write_text(
        json.dumps({"library_name": "softcue", "rest": "x" * (5 * 2**20)})
    )
    assert foreign(tmp_path / "large") == [HEADER]


def test_many_names_are_told_in_one_short_line(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:04}\n").touch()
    told = refused(tmp_path)
    assert "0004\\n and 995 more" in told and "\n" not in told


def test_an_adapter_of_a_later_format_may_be_written_over(tmp_path: Path) -> None:
    folder = make().save(tmp_path / "ours")
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps({**header, "format_version": 2}))
    check_place(folder)
    adapter = make("gpc")
    assert same(Adapter.load(adapter.save(folder)), adapter)


def test_a_fine_tuned_checkpoint_is_written_over_whole_and_a_thesis_in_its_encoder_is_not(
    tmp_path: Path,
) -> None:
    checkpoint = train_full(
        Job(tiny_data("classify", train=4, dev=2, test=2), training={"epochs": 1}), tiny_base()
    )
    folder = checkpoint.save(tmp_path / "full")
    assert not foreign(folder)
    checkpoint.save(folder)
    (folder / "encoder" / "thesis.txt").write_text("precious")
    assert "encoder/thesis.txt" in refused(folder)
    with pytest.raises(RequestError, match=r"encoder/thesis\.txt"):
        checkpoint.save(folder)
    (folder / "encoder" / "thesis.txt").unlink()
    make().save(folder)
    assert sorted(contents(folder)) == [HEADER, TENSORS]


def test_what_is_put_there_while_a_folder_is_written_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make().save(tmp_path / "ours")
    real = Path.write_bytes

    def slow(file: Path, data: bytes) -> int:
        (folder / "thesis.txt").write_text("precious")
        return real(file, data)

    monkeypatch.setattr(Path, "write_bytes", slow)
    with pytest.raises(RequestError, match=r"thesis\.txt"):
        make("gpc").save(folder)
    assert Adapter.load(folder).method == "pasta"
    assert (folder / "thesis.txt").read_text() == "precious"
    assert os.listdir(tmp_path) == ["ours"]
