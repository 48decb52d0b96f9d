"""Checkpoints of others, read without running anything of theirs."""
