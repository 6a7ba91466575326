"""`python -m benchmarks`: all of them, one after the other, with the options of each."""

from benchmarks import (
    bank,
    cliff,
    fan_out,
    fresh,
    grid_search,
    inference,
    kernels,
    linear,
    memory,
    mixed,
    packed_sweep,
    precision,
    roofline,
    scaling,
    serving,
    setfit,
    shares,
    training,
)

for benchmark in (
    training,
    fresh,
    inference,
    mixed,
    packed_sweep,
    grid_search,
    scaling,
    roofline,
    shares,
    kernels,
    linear,
    setfit,
    memory,
    precision,
    bank,
    fan_out,
    cliff,
    serving,
):
    print(f"## {benchmark.__name__.rpartition('.')[2]}: {benchmark.__doc__}", flush=True)
    benchmark.main()
