"""Networks as bare modules: they take pixels in [0, 1] and know neither noise nor attacks."""
