"""The probe has no numbers, and changes nothing."""

from tests.cues.cue_cases import SEATS, Counted, Own, build, case, close, forward, texts
from tests.encoder.slow_bert import encode

OWN = Own(small={}, counted=[Counted({}, {"bert-base": 0, "bert-large": 0})])


def test_a_probe_is_the_bare_encoder() -> None:
    model, encoder = case("bert")
    bare = forward(encoder, build("probe", encoder), texts("bert"), SEATS)
    close(bare, [encode(model, e) for e in texts("bert")])
