"""Cheap changes to images, and what part of the gain of a refinement each of them explains."""
