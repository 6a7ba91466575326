"""`python -m softcue` is the command softcue."""

from softcue.cli import main

main()
