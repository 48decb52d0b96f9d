"""The one way in which images of any size become squares of one size.

It is that of Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis",
https://arxiv.org/abs/2105.05233, by which the training images of ADM, of the public consistency
models and of the references of their protocol were made. A discriminator that saw real images
resampled in another way than those its generator was trained on would learn the resampling.
"""

from PIL import Image

from burnish.errors import InputError
from burnish.storage.sample_file import MAX_PIXELS


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """Return the middle ``size`` x ``size`` pixels of an image whose shorter side became ``size``.

    The image is halved by averaging 2 x 2 pixels as long as its shorter side stays at least
    ``size``; the rest of the way is bicubic. One that is ``size`` x ``size`` comes back unchanged.

    Raises:
        InputError: It is so narrow that it would become too large.
    """
    if image.size == (size, size):
        return image
    short = min(image.size)
    if max(image.size) / short * size * size > MAX_PIXELS:
        raise InputError(f"an image of {image.width}x{image.height} is too narrow; remove it")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
