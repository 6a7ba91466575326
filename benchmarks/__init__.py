"""Benchmarks: softcue beside transformers and PEFT, alternating in one process; `python -m
benchmarks` runs them all.
"""
