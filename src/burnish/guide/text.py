"""Guides whose classes are texts: a CLIP, and a file of prompts or of captions.

A guide from text knows which text an image fits. It does not know how real an image looks. A
CLIP that was not trained adversarially has gradients that look like noise; robust ones exist
(Schlarmann et al. 2024, "Robust CLIP", https://arxiv.org/abs/2402.12336).
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from burnish.documents import CONTROL, load_json, read_text
from burnish.errors import InputError, shown, unknown
from burnish.foreign.reader import read_checkpoint
from burnish.guide.model import Guide
from burnish.hub import fetch_repository
from burnish.networks.build import outline
from burnish.networks.clip import MEAN, MODES, STD, ClipClassifier, clip_of
from burnish.networks.fit import fitted
from burnish.networks.normalize import Normalize

PREFIX = "clip/"
TEMPLATE = "a photo of a {}"
MOST_TEXTS, MOST_BYTES, LONGEST = 100_000, 2**25, 1000
# In the order in which they are looked for.
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
           "model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")  # fmt: skip
BATCH = 64


def load_text_guide(
    source: str, texts: str | Path | Sequence[str] | None = None, template: str = TEMPLATE
) -> Guide:
    """Load a zero-shot guide.

    Args:
        source: ``clip/`` and one of: a hub id of open_clip (``clip/chs20/fare2-clip``); a folder
            with ``open_clip_config.json`` and weights; a model of open_clip and a file of weights,
            ``clip/ViT-B-32:FILE``. A file of prompts may follow behind ``@``.
        texts: The text of each class, K of them, all different; or a file with one per line.
        template: What is said of a class, ``{}`` standing for its text.

    Raises:
        InputError: open_clip is not installed; there is no such model, it has no such weights, or
            is of a kind that is not read; the texts are none.
    """
    if find_spec("open_clip") is None:
        raise InputError("guides from text need open_clip: pip install 'burnish[clip]'")
    name, _, file = source.rpartition("@")
    if not name or Path(source.removeprefix(PREFIX)).exists():
        name, file = source, ""
    if file and texts is not None:
        raise InputError(f"{shown(source)} names prompts already; give them once")
    if texts is None and not file:
        raise InputError(
            f"{shown(source)} needs the texts of its classes: --prompts FILE, one per line "
            "(or --captions FILE, one per image)"
        )
    if template.count("{}") != 1:
        raise InputError(f"a template holds {{}} once, for the class; not {shown(template)}")
    given = texts if texts is not None else file
    classes = read_texts(Path(given)) if isinstance(given, str | Path) else list(given)
    _check_texts(classes)
    config, preprocess, path = _parts(name.removeprefix(PREFIX))
    model, sha256 = _load(config, path)
    prompts = [template.replace("{}", one) for one in classes]
    vectors, num_cut = _encode(model, config, prompts)
    arguments = {
        "name": "clip", "num_classes": len(classes), "embed_dim": config["embed_dim"],
        "vision": config["vision_cfg"], "quick_gelu": config.get("quick_gelu", False),
        **preprocess,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps([sha256, prompts]).encode()).hexdigest()
    card = {
        "name": name, "kind": "zero-shot classifier: knows texts, not how real images look",
        "network": arguments, "template": template, "num_cut_texts": num_cut,
        "texts": classes[:1000], "weights_sha256": sha256, "sha256": digest,
    }  # fmt: skip
    return Guide(_classifier(model, arguments, vectors), card).eval()


def read_texts(path: Path, captions: bool = False) -> list[str]:
    """Return the lines of a file of prompts, one per class, or of captions, one per image.

    Args:
        path: Text in UTF-8, at most 32 MiB and, of prompts, 100,000 lines.
        captions: Whether lines may repeat, and be as many as images.

    Raises:
        InputError: It is no such file, or a line is empty, too long, or holds control characters.
    """
    text = read_text(path, MOST_BYTES).removeprefix("\ufeff")
    lines = [line.removesuffix("\r").strip() for line in text.rstrip().split("\n")]
    if lines == [""]:
        raise InputError(f"{path} is empty; write one {'caption' if captions else 'class'} a line")
    for number, line in enumerate(lines, 1):
        if not line or len(line) > LONGEST or CONTROL.search(line):
            fault = f"is longer than {LONGEST} letters" if line else "is empty"
            fault = "holds control characters" if CONTROL.search(line) else fault
            raise InputError(f"{path}: line {number} {fault}")
    try:
        return lines if captions else _check_texts(lines)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def caption_labels(captions: Sequence[str]) -> tuple[list[str], Tensor]:
    """Return the different ones among captions, in order of appearance, and where each is.

    They are the classes of a guide, and the labels of the images, ``[N]`` int64.
    """
    places: dict[str, int] = {}
    labels = [places.setdefault(one, len(places)) for one in captions]
    return list(places), torch.tensor(labels, dtype=torch.int64)


def _check_texts(texts: list[str]) -> list[str]:
    if not 1 <= len(texts) <= MOST_TEXTS:
        raise InputError(f"{len(texts):,} classes; give 1 to {MOST_TEXTS:,}")
    seen: dict[str, int] = {}
    for number, one in enumerate(texts, 1):
        if not isinstance(one, str) or not one.strip():
            raise InputError(f"the text of class {number - 1} is none: {shown(one)}")
        if one in seen:
            raise InputError(
                f"lines {seen[one]} and {number} are the same, {shown(one)}; classes must differ"
            )
        seen[one] = number
    return texts


def _parts(name: str) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Return the configuration of a model, how images are prepared, and its file of weights."""
    import open_clip

    model, _, file = name.partition(":")
    if file:
        if model not in open_clip.list_models():
            raise unknown("model of open_clip", model, open_clip.list_models())
        config: Any = open_clip.get_model_config(model)
        found = [open_clip.get_pretrained_cfg(model, tag) for tag in
                 open_clip.list_pretrained_tags_by_model(model)]  # fmt: skip
        known = {(tuple(one.get("mean", MEAN)), tuple(one.get("std", STD)),
                  one.get("interpolation", "bicubic")) for one in found}  # fmt: skip
        if len(known) > 1:
            raise InputError(
                f"weights of {model} differ in how images are prepared, which the file does not "
                f"say; give a folder with {CONFIG} and them"
            )
        mean, std, mode = known.pop() if known else (MEAN, STD, "bicubic")
        return (
            config,
            _preprocess({"mean": mean, "std": std, "interpolation": mode}, name),
            (Path(file)),
        )
    folder = Path(name)
    if not folder.is_dir():
        if folder.exists():
            raise InputError(f"{name} is a file; say of which model: {PREFIX}ViT-B-32:{name}")
        folder = fetch_repository("CLIP", name, ["*.json", "*.safetensors"], or_else=["*.bin"])
    values = load_json(folder / CONFIG)
    config = values.get("model_cfg") if isinstance(values, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("embed_dim"), int):
        raise InputError(f"{folder / CONFIG} holds no model_cfg of open_clip with its embed_dim")
    path = next((folder / one for one in WEIGHTS if (folder / one).is_file()), None)
    if path is None:
        raise InputError(f"{folder} holds no weights; one of {', '.join(WEIGHTS)} is looked for")
    return config, _preprocess(values.get("preprocess_cfg") or {}, str(folder / CONFIG)), path


def _preprocess(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise InputError(f"{where}: preprocess_cfg must be keys and values")
    mode = values.get("interpolation", "bicubic")
    mean, std = values.get("mean", MEAN), values.get("std", STD)
    for numbers, least in ((mean, -1), (std, 1e-6)):
        if (
            not isinstance(numbers, list | tuple) or len(numbers) != 3
            or not all(type(one) in (int, float) and least <= one <= 1 for one in numbers)
        ):  # fmt: skip
            raise InputError(f"{where}: mean and std must be three numbers each, std above 0")
    # open_clip also knows random, for training.
    return {"mean": [*mean], "std": [*std], "interpolation": mode if mode in MODES else "bicubic"}


def _load(config: dict[str, Any], path: Path) -> tuple[nn.Module, str]:
    """Return a whole CLIP with the weights of a file, and the SHA-256 of that."""
    blank = outline(lambda: clip_of(config), f"the model of {path.parent}")
    checkpoint = read_checkpoint(path)
    state: Any = checkpoint.content
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no state dict; save that of the model")
    state = {str(name).removeprefix("module."): values.float() for name, values in state.items()}
    wanted = blank.state_dict()
    if "positional_embedding" in state and "positional_embedding" not in wanted:
        from open_clip.model import convert_to_custom_text_state_dict

        state = convert_to_custom_text_state_dict(state)
    for name, values in state.items():
        if name in wanted and values.numel() == 1 == wanted[name].numel():
            state[name] = values.reshape(wanted[name].shape)
    try:
        return fitted(blank, lambda: clip_of(config), state), checkpoint.sha256
    except InputError as error:
        raise InputError(f"{path}: {error}; is it of another model?") from error


@torch.no_grad()
def _encode(model: Any, config: dict[str, Any], prompts: list[str]) -> tuple[Tensor, int]:
    """Return unit vectors ``[K, D]`` of texts, and how many were cut to the tower's length."""
    import open_clip

    length = config["text_cfg"].get("context_length", 77)
    if length < 3:  # a beginning, a word and an end
        raise InputError(f"the text tower reads {length} tokens, too few for a word")
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    if int(config["text_cfg"].get("vocab_size", 49408)) < len(tokenizer.encoder):
        raise InputError("the text tower has fewer words than CLIP's tokenizer; it needs another")
    num_cut, found = 0, []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        num_cut += sum(len(tokenizer.encode(one)) + 2 > length for one in part)
        found.append(normalize(model.encode_text(tokenizer(part)).float(), dim=1))
    return torch.cat(found), num_cut


def _classifier(model: Any, arguments: dict[str, Any], vectors: Tensor) -> nn.Module:
    """Return the image tower of a CLIP under the vectors of texts, without building it again."""
    given = {name: value for name, value in arguments.items() if name != "name"}
    network: Any = outline(lambda: ClipClassifier(**given), "the image tower")
    network.visual = model.visual
    network.normalize = Normalize(given["mean"], given["std"])
    network.texts, network.scale = vectors, model.logit_scale.detach().exp().reshape(())
    if not bool(network.scale.isfinite()):
        raise InputError("the logit_scale of this CLIP is too large; its weights are damaged")
    return network.eval()
