"""Robust classifiers of others as guides: which are known, and how their files are read."""
