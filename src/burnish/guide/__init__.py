"""The guide: a classifier that is also a discriminator and an energy, and its training."""

from burnish.guide.model import OBJECTIVES, Guide

__all__ = ["OBJECTIVES", "Guide"]
