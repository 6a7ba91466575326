"""Answering: any mix of adapters in one forward, logits to answers and scores."""
