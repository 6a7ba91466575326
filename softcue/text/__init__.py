"""Text: what becomes token ids, with special tokens that are known."""
