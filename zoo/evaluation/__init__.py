"""Metrics and pictures."""

from zoo.evaluation.language_model import carried_nats, window_nats

__all__ = ["carried_nats", "window_nats"]
