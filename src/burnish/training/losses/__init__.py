"""Losses of trainings: ``(model, batch, step) -> (scalar, numbers to log)``."""
