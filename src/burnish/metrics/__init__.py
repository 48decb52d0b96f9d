"""Metrics: features of images, formulas of features, and the evaluation that joins them."""
