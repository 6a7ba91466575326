"""Methods that may begin at a higher layer: fewer numbers, and nothing below it."""

from dataclasses import replace

import pytest
import torch

from softcue.answering.evaluation import run
from softcue.errors import SettingsError
from softcue.protocol import Cue, Dims
from tests.contract.cases import make_model, settled
from tests.contract.test_fan_out import alone, close, counted, items_of, rows_by_layer
from tests.tiny import LAYERS, tiny_encoder

OPTIONS = [
    ("pasta", {}),
    ("lora", {}),
    ("spt", {}),
    ("apt", {}),
    ("ptuning", {}),
    ("ptuning", {"mlp": 5}),
]


@pytest.mark.parametrize(("method", "options"), OPTIONS)
def test_layers_below_the_first_are_shared_and_have_no_numbers(method: str, options: dict[str, int]) -> None:
    encoder = tiny_encoder("bert")
    model = make_model(encoder, method, 3, first_layer=2, **options)
    cue = model.mixture.cue(0)
    config = settled(method, encoder.dims, first_layer=2, **options)
    assert cue.first_touched(1) == 2
    numbers = sum(parameter[0].numel() for parameter in cue.parameters())
    assert Cue.registry[method].count(encoder.dims, config) == numbers
    assert numbers < Cue.registry[method].count(encoder.dims, replace(config, first_layer=0))
    one, two = items_of("bert", 9, 6)
    items, seats = [one, one, two, one], [0, 1, 2, 2]
    with counted(encoder) as seen:
        together = run(model, items, seats)
    assert rows_by_layer(seen) == [15, 15, 33]
    close(together, alone(model, items, seats))


@pytest.mark.parametrize(("method", "options"), OPTIONS)
def test_it_is_the_whole_method_whose_lower_layers_do_nothing(method: str, options: dict[str, int]) -> None:
    """The same numbers in the layers above; below, where that can be said by numbers, zeros."""
    encoder = tiny_encoder("bert")
    high = make_model(encoder, method, 2, first_layer=1, **options)
    (item,) = items_of("bert", 9)
    if method in ("pasta", "lora"):
        whole = make_model(encoder, method, 2, **options)
        with torch.no_grad():
            for name, numbers in whole.mixture.named_parameters():
                numbers[:, 0] = 0
                numbers[:, 1:] = high.mixture.get_parameter(name)
        close(run(whole, [item], [1]), run(high, [item], [1]))
    sum(part.logits.square().sum() for part in high(high.pack(item.examples, [0])).parts).backward()
    assert all(p.grad is not None and p.grad[0].any() for p in high.mixture.parameters())


@pytest.mark.parametrize(("method", "options"), OPTIONS)
def test_a_layer_that_the_encoder_lacks_is_refused(method: str, options: dict[str, int]) -> None:
    dims: Dims = tiny_encoder("bert").dims
    config = settled(method, dims, first_layer=LAYERS, **options)
    with pytest.raises(SettingsError, match="first_layer is 3; this encoder has layers 0 to 2"):
        Cue.registry[method](dims, config, 1)
    with pytest.raises(SettingsError, match="first_layer is 3"):
        Cue.registry[method].count(dims, config)
