"""Samples on disk, one module per format; ``formats`` opens and writes them all."""
