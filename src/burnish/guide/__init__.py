"""The guide: a classifier that is also a discriminator and an energy."""
