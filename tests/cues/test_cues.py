"""What holds for all tuning methods: mixed batches, seats, counts, bfloat16 and refusals."""

import pytest
import torch
from torch.nn import functional as F

from softcue.batch import pack
from softcue.errors import RequestError
from softcue.mixture import Mixture
from softcue.protocol import Cue
from tests.cues.cue_cases import METHODS, SEATS, build, case, close, forward, own, text, texts

OPTIONS = {method: own(method).small for method in METHODS}
REFUSED = [(method, *one) for method in METHODS for one in own(method).refused]


def test_all_methods_in_one_batch_equal_each_alone() -> None:
    _, encoder = case("bert")
    cues = [build(method, encoder, adapters=2, **options) for method, options in OPTIONS.items()]
    table = [(number, seat) for number in range(len(cues)) for seat in (1, 0)]
    examples = [text("bert", 2 + i % 5, i % 3, seed=i) for i in range(len(table))]
    mixture = Mixture(cues, table).eval()
    made = [mixture.cue_of(seat) for seat in range(len(table))]
    seats = list(reversed(range(len(table))))
    batch = pack(examples, seats, [made[s].reserve for s in seats], [made[s].shift for s in seats])
    pieces = encoder(batch, mixture)[0].split(batch.lengths)
    for piece, at, seat in zip(pieces, batch.order, batch.seats, strict=True):
        close([piece], forward(encoder, made[seat], [examples[at]], [table[seat][1]]))


@pytest.mark.parametrize("method", sorted(OPTIONS))
def test_a_fresh_cue_starts_small_and_every_number_is_one_adapter_per_seat(method: str) -> None:
    _, encoder = case("bert")
    cls = Cue.registry[method]
    cue = cls(encoder.dims, cls.Config(**OPTIONS[method]), 4)
    assert all(parameter.shape[0] == 4 for parameter in cue.parameters())
    assert all(
        bool(parameter.isfinite().all()) and float(parameter.detach().abs().max()) <= 1
        for parameter in cue.parameters()
    )
    assert cls.count(encoder.dims, cue.config) * 4 == sum(parameter.numel() for parameter in cue.parameters())


@pytest.mark.parametrize("method", sorted(OPTIONS))
@pytest.mark.parametrize(("built", "least"), [(False, 0.98), (True, 0.95)])
def test_bfloat16_forward_stays_close_to_float32(
    method: str, built: bool, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without softcue/kernels and with it, where single rows of LoRA's random maps make more of rounding."""
    if not built:
        monkeypatch.setattr("softcue.kernels.library", lambda: None)
    _, encoder = case("bert")
    cue = build(method, encoder, **OPTIONS[method])
    exact = forward(encoder, cue, texts("bert"), SEATS)
    rough = forward(case("bert")[1].to(torch.bfloat16), cue, texts("bert"), SEATS)
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.bfloat16
        alike = F.cosine_similarity(a, b.float(), dim=-1).detach()
        assert float(alike.mean()) > 0.99 and float(alike.min()) > least


@pytest.mark.parametrize(("method", "options", "says"), REFUSED)
def test_a_bad_config_is_refused_with_everything_that_is_wrong(method: str, options: dict, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        Cue.registry[method].Config(**options)
    assert says in str(caught.value)
