"""Attention: who sees whom, rows to buckets and back, and the products between them."""
