"""One preset for encoders of any size: what is measured before training changes initial numbers
and rates as it says.
"""

import copy
from dataclasses import replace

import pytest
import torch

from softcue.base import Base
from softcue.cues import Cue
from softcue.encoder.row_sizes import row_sizes
from softcue.protocol import Dims
from softcue.rows import unit_of
from softcue.training.job import Job, prepare
from softcue.training.jobs import train_jobs
from tests.tiny_base import tiny_base, tiny_data
from tests.training.training_cases import job


def scaled(base: Base, share: float) -> Base:
    """The base with hidden states that are `share` as large in front of every layer."""
    encoder = copy.deepcopy(base.backbone.encoder)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "norm" in name:
                parameter.mul_(share)
    return Base(replace(base.backbone, encoder=encoder), base.text)


@pytest.mark.parametrize("method", ["pasta", "stp"])
def test_initial_vectors_are_as_small_as_the_rows(method: str) -> None:
    base = scaled(tiny_base(), 1 / 8)
    one = Job(tiny_data(), method, seed=3)
    prepared, plain = prepare(one, base), prepare(replace(one, training={"units": False}), base)
    assert plain.units == {}
    assert torch.equal(
        prepared.cue.get_parameter("delta")[0], plain.cue.get_parameter("delta")[0] * prepared.units["delta"]
    )
    examples = [example for item in prepared.items for example in item.examples][:32]
    sizes = row_sizes(base.backbone.encoder, examples, 2)
    assert set(prepared.units["delta"].flatten().tolist()) <= set(unit_of(sizes).flatten().tolist())
    assert prepared.units["delta"].max() < 1


def test_packed_jobs_have_the_units_of_their_own_data() -> None:
    jobs = [job(tiny_data(), "pasta", seed, {"dropout": 0.0}, epochs=2) for seed in (0, 1)]
    base = scaled(tiny_base(), 1 / 4)
    packed = train_jobs(jobs, base)
    for one, ours in zip(jobs, packed, strict=True):
        torch.testing.assert_close(
            ours.cue["delta"], train_jobs([one], base)[0].cue["delta"], rtol=1e-4, atol=1e-5
        )


def test_loras_preset_falls_with_layers_and_width_and_a_given_rate_does_not() -> None:
    share = Cue.registry["lora"].rate_share
    minilm, base, large = ((6, 384, 12), (12, 768, 12), (24, 1024, 16))
    assert [share(Dims(n, d, h, d, 4 * d, True)) for n, d, h in (minilm, base, large)] == [1.0, 0.25, 0.09375]
    assert share(Dims(2, 32, 2, 32, 64, True)) == 1.0


def test_stps_preset_falls_to_a_third_on_an_encoder_of_base_size() -> None:
    share = Cue.registry["stp"].rate_share
    assert share(Dims(6, 384, 12, 384, 1536, True)) == 1.0
    assert share(Dims(12, 768, 12, 768, 3072, True)) == pytest.approx(0.3536, abs=1e-4)


def test_the_rate_that_a_run_had_is_what_its_adapter_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cue.registry["lora"], "rate_share", classmethod(lambda cls, dims: 0.5))
    usual = prepare(Job(tiny_data(), "lora"), tiny_base())
    given = prepare(Job(tiny_data(), "lora", training={"rate": 0.01}), tiny_base())
    monkeypatch.undo()
    assert usual.training.rate == 0.5 * prepare(Job(tiny_data(), "lora"), tiny_base()).training.rate
    assert given.training.rate == 0.01


def test_slots_that_the_task_lacks_do_not_count_in_a_shared_vector() -> None:
    """They were taken to be of the usual size, and pulled the mean to it."""
    pasta, sizes = Cue.registry["pasta"], torch.full((4, 2), 0.05)
    alone = pasta.units(pasta.Config(shared=True, slots=2), lambda: sizes)["delta"]
    more = pasta.units(pasta.Config(shared=True, slots=4), lambda: sizes)["delta"]
    assert torch.equal(more, alone) and float(alone.max()) == 0.125
    own = pasta.units(pasta.Config(slots=3), lambda: sizes)["delta"]
    assert own[:, :2].max() == 0.125 and own[:, 2].eq(1).all()


def test_gpcs_cell_learns_less_on_larger_encoders_and_its_prompt_does_not() -> None:
    gpc = Cue.registry["gpc"]
    minilm, base = (
        gpc(Dims(n, d, h, d, 4 * d, True), gpc.Config(length=2)) for n, d, h in ((6, 384, 12), (12, 768, 12))
    )
    assert minilm.rate_shares() == {"remember": 0.03, "forget": 0.03}
    assert base.rate_shares() == {"remember": 0.0075, "forget": 0.0075}
