"""Studies: long computations whose results are kept in the repository."""
