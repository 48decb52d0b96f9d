"""The gallery: pairs of images in the browser, by the hundred or by the hundred thousand."""
