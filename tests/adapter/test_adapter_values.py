"""Settings through JSON: exact, or refused by name."""

import json
from dataclasses import dataclass, fields
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from softcue.adapter.values import decode_record, encode
from softcue.errors import AdapterError


@dataclass(frozen=True)
class Sample:
    """Every type that a config may have."""

    whole: int
    real: float
    word: str
    flag: bool
    choice: Literal["a", "b", 3]
    maybe: int | None
    plan: tuple[tuple[int, ...], ...]
    both: tuple[str, float]
    either: tuple[int, ...] | str | None


WHOLE = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SAMPLES = st.builds(
    Sample,
    whole=WHOLE,
    real=st.floats(allow_nan=False, allow_infinity=False),
    word=TEXT,
    flag=st.booleans(),
    choice=st.sampled_from(["a", "b", 3]),
    maybe=st.none() | WHOLE,
    plan=st.lists(st.lists(WHOLE, max_size=3).map(tuple), max_size=3).map(tuple),
    both=st.tuples(TEXT, st.floats(allow_nan=False, allow_infinity=False)),
    either=st.none() | TEXT | st.lists(WHOLE, max_size=3).map(tuple),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(SAMPLES)
def test_settings_come_back_exactly_through_json(sample):
    back = decode_record(Sample, json.loads(json.dumps(encode(sample, "config"))), "config")
    assert back == sample
    assert repr(back) == repr(sample)


@settings(max_examples=100, deadline=None)
@given(SAMPLES, st.sampled_from([f.name for f in fields(Sample)]), ANYTHING)
def test_a_field_of_another_type_is_refused_by_name(sample, name, value):
    given_values = {**encode(sample, "config"), name: value}
    try:
        back = decode_record(Sample, given_values, "config")
    except AdapterError as error:
        said = str(error)
    else:
        said = f"config.{name}"
        assert encode(back, "config") == given_values
    assert said.startswith(f"config.{name}")
