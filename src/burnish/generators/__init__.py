"""Generators make samples: ``sample(seeds, labels) -> Samples``."""
