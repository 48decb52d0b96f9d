"""Jobs: planned and checked once, then run: files in, files out, one batch in memory at a time."""
