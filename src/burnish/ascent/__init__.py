"""Gradient ascent on a per-image objective inside a ball: the refinement and the attacks."""
