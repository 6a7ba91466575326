"""Scoring: entities from tags, and the metrics of every kind of task."""
