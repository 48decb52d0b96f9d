"""burnish refines generated images with an adversarially trained classifier-discriminator."""

__version__ = "0.1.0"
