"""Encoders of every family over packed rows, and the code that reads their weights."""
