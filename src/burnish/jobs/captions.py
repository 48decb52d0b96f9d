"""Texts in place of classes: what a job's prompts and captions make of its guide and its file."""

from pathlib import Path

from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.jobs.options import RefineOptions
from burnish.storage.sample_file import SampleFile


def load_worded(guide: str | Path | Guide, given: RefineOptions, labels: str) -> Guide:
    """Load the guide of a job; with its prompts or captions, if it has any.

    Args:
        guide: A name or path, see :func:`burnish.load_guide`, or a loaded one.
        given: The options of the job.
        labels: Where its labels come from.

    Raises:
        InputError: There is no such guide, it is none from text, or the options contradict.
    """
    if not (given.prompts or given.captions):
        if given.template is not None:
            raise InputError("a template says what prompts or captions are put into; give these")
        return guide if isinstance(guide, Guide) else load_guide(guide)
    if isinstance(guide, Guide):
        raise InputError("the guide is loaded, so its texts are chosen; leave out prompts")
    from burnish.guide.text import (
        PREFIX,
        TEMPLATE,
        caption_labels,
        load_text_guide,
        read_texts,
    )

    if not str(guide).startswith(PREFIX):
        raise InputError(
            f"prompts and captions are for guides from text, {PREFIX}...; not {guide}"
        )
    if given.prompts and given.captions:
        raise InputError("give prompts, one per class, or captions, one per image, but not both")
    template = given.template
    if given.prompts:
        texts, template = read_texts(given.prompts), TEMPLATE if template is None else template
        return load_text_guide(str(guide), texts, template)
    assert given.captions is not None
    if labels != "given":
        raise InputError("captions say what each image climbs; leave out labels")
    texts, _ = caption_labels(read_texts(given.captions, captions=True))
    return load_text_guide(str(guide), texts, "{}" if template is None else template)


def captioned(file: SampleFile, captions: Path | None) -> SampleFile:
    """Return a file whose labels are places in the list of different captions, if there are any.

    Raises:
        InputError: There is not one caption per image.
    """
    if captions is None:
        return file
    from burnish.guide.text import caption_labels, read_texts

    lines = read_texts(captions, captions=True)
    if len(lines) != len(file):
        raise InputError(
            f"{captions}: {len(file)} images but {len(lines)} captions; give one per image"
        )
    file.set_labels(caption_labels(lines)[1])
    return file
