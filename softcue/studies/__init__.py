"""Studies: many runs at once - comparisons, sweeps and searches - with their tables and plots."""
