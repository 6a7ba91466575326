"""Full fine-tuning: a checkpoint that transformers loads, and that answers as it did before it was saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from softcue.adapter import Adapter
from softcue.answering.evaluation import run
from softcue.answering.predict import Predictor
from softcue.answering.seating import seat_adapters
from softcue.answering.served import reading_of
from softcue.base import Base, open_base
from softcue.encoder.load import load_encoder
from softcue.errors import AdapterError, DivergedError, RequestError
from softcue.protocol import Silent
from softcue.readers.items import make_items
from softcue.readers.records import Data
from softcue.training.full import Checkpoint, train_full
from softcue.training.job import Job, Prepared
from softcue.training.run import TrainingRun
from tests.tiny import padded, random_examples, real_rows
from tests.tiny_base import majority, tiny_base, tiny_data


def trained(
    kind: str = "classify", family: str = "bert", precision: str = "float32", **training: Any
) -> tuple[Checkpoint, Data]:
    data = tiny_data(kind)
    shared = {"epochs": 10, "batch": 16, "rate": 3e-3, "backbone_dropout": False, **training}
    return train_full(Job(data, training=shared), tiny_base(family, precision=precision)), data


def answers(adapter: Adapter, base: Base, data: Data) -> list[torch.Tensor]:
    items = make_items(data.splits["test"], base.text, reading_of(adapter))
    return run(seat_adapters(base, [adapter]), items, [0] * len(items))


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_it_learns_and_answers_the_same_after_saving(kind: str, tmp_path: Path) -> None:
    checkpoint, data = trained(kind)
    assert checkpoint.scores[data.metric] > (majority(data) + 0.2 if kind == "classify" else 0.5)
    folder = checkpoint.save(tmp_path / "saved")
    loaded, base = Adapter.load(folder), open_base(str(folder / "encoder"), "float32")
    loaded.check("saved", str(folder / "encoder"), base.fingerprint, base.backbone.encoder.dims)
    assert (loaded.tuned, loaded.backbone) == ("full", "./encoder")
    before, after = answers(checkpoint.adapter, checkpoint.base, data), answers(loaded, base, data)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v3", "modernbert", "albert"])
def test_transformers_loads_the_folder_and_computes_the_same(family: str, tmp_path: Path) -> None:
    checkpoint, _ = trained(family=family, epochs=1)
    folder = checkpoint.save(tmp_path / "saved")
    theirs = AutoModel.from_pretrained(folder / "encoder", attn_implementation="eager").eval()
    encoder = load_encoder(folder / "encoder").encoder
    examples = random_examples(family, (9, 5, 12))
    model = seat_adapters(open_base(str(folder / "encoder"), "float32"), [Adapter.load(folder)])
    batch = model.pack(examples, [0, 0, 0])
    with torch.no_grad():
        ours, _ = encoder(batch, Silent())
        expected = real_rows(theirs(**padded(theirs, examples)).last_hidden_state, batch)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_the_base_it_began_from_is_untouched() -> None:
    base = tiny_base()
    before = {name: tensor.clone() for name, tensor in base.backbone.encoder.state_dict().items()}
    checkpoint, _ = trained(epochs=2)
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in base.backbone.encoder.state_dict().items()
    )
    assert not any(p.requires_grad for p in base.backbone.encoder.parameters())
    tuned = checkpoint.base.backbone.encoder
    assert any(not torch.equal(tensor, before[name]) for name, tensor in tuned.state_dict().items())
    assert not any(p.requires_grad for p in tuned.parameters())


def test_the_saved_adapter_refuses_the_base_it_began_from(tmp_path: Path) -> None:
    checkpoint, _ = trained(epochs=1)
    loaded = Adapter.load(checkpoint.save(tmp_path / "saved"))
    with pytest.raises(AdapterError, match="checkpoint"):
        Predictor(tiny_base(), {"tuned": loaded})


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second = (trained(epochs=2, backbone_dropout=True)[0] for _ in range(2))
    ours, theirs = (checkpoint.base.backbone.encoder.state_dict() for checkpoint in (first, second))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_base_in_bfloat16_is_tuned_in_float32() -> None:
    checkpoint, data = trained(precision="bfloat16")
    assert {p.dtype for p in checkpoint.base.backbone.encoder.parameters()} == {torch.float32}
    assert checkpoint.scores["accuracy"] > majority(data) + 0.2


def test_settings_of_a_method_are_refused() -> None:
    with pytest.raises(RequestError, match="full fine-tuning has no settings; length came"):
        train_full(Job(tiny_data(), settings={"length": 3}), tiny_base())


def test_training_that_diverges_before_it_is_scored_is_refused_with_its_rate() -> None:
    def poison(prepared: Prepared, run: TrainingRun) -> None:
        run.loss = run.loss + float("nan")

    with pytest.raises(
        DivergedError, match=r"diverged .*: 1 job of full at rate 0.003; lower the rate, or set clip"
    ):
        train_full(
            Job(tiny_data(train=8), training={"epochs": 2, "batch": 4, "rate": 3e-3}), tiny_base(), poison
        )
