"""The dose: which settings of refinement help some images, or that none does."""
