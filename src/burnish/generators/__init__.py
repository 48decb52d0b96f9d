"""Generators make samples from seeds; this package samples and loads, it trains nothing."""
