"""Refinement: gradient ascent on a per-image objective inside a ball."""
