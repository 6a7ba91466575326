"""Looks inside: what the methods say of the encoder, as values and as pictures."""
