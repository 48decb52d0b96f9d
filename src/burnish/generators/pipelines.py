"""Any other image pipeline of diffusers, sampled by diffusers itself: DDPM, DDIM, latent, DiT.

A pipeline is put together from parts that are diffusers' own classes, with weights from
safetensors alone. Pipelines and parts that bring code are refused.
"""

# pyright: reportPrivateImportUsage=false

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from burnish.documents import load_json
from burnish.errors import InputError, shown
from burnish.generators.base import Generator
from burnish.networks.build import outline
from burnish.seeds import Streams, global_numbers

INDEX = "model_index.json"
MAX_NUMBER, MAX_COUNT = 10**6, 200  # in a config; of what is repeated


class PipelineGenerator(Generator):
    """A pipeline of diffusers.

    Each image has a random generator of its own. Should the pipeline draw from torch's global one
    besides, which belongs to no image, images are made one by one, after that has been set by
    their seed; so image i depends on seed i alone, whatever else is sampled.

    Args:
        pipeline: A ``DiffusionPipeline``.
        num_steps: Its ``num_inference_steps``; None for its default.
        card: What is known of it.
    """

    def __init__(self, pipeline: Any, num_steps: int | None, card: Mapping[str, Any]) -> None:
        parameters = inspect.signature(pipeline.__call__).parameters
        usual = parameters["num_inference_steps"].default
        if not isinstance(usual, int):
            raise InputError(f"{type(pipeline).__name__} has no number of steps; it is not known")
        if num_steps is not None and num_steps < 1:
            raise InputError(f"a pipeline takes 1 step or more, not {num_steps}")
        models = {n: m for n, m in pipeline.components.items() if isinstance(m, nn.Module)}
        super().__init__(nn.ModuleDict(models), num_steps or usual, card)
        self.pipeline, self._alone = pipeline, False
        pipeline.set_progress_bar_config(disable=True)
        main: Any = models.get("unet") or models.get("transformer")
        if main is None:
            raise InputError(f"{type(pipeline).__name__} has no unet and no transformer")
        self.image_shape = _shape(main, models.get("vae") or models.get("vqvae"))
        self.num_classes = None
        if "class_labels" in parameters:
            config = main.config
            self.num_classes = config.get("num_class_embeds") or config.get("num_embeds_ada_norm")
            if not self.num_classes:
                raise InputError(f"{type(pipeline).__name__} does not say how many classes it has")

    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1]."""
        streams = noise.generators
        if not self._alone:
            with global_numbers(streams[0].initial_seed()) as moved:
                images = self._call(streams, labels)
            if count == 1 or not moved():
                return images
            self._alone = True
            for one in streams:  # back to where they began
                one.manual_seed(one.initial_seed())
        found = []
        for place, one in enumerate(streams):
            with global_numbers(one.initial_seed()):
                found.append(self._call([one], None if labels is None else labels[place, None]))
        return torch.cat(found)

    def _call(self, streams: list[torch.Generator], labels: Tensor | None) -> Tensor:
        given: dict[str, Any] = {"generator": streams, "output_type": "np"}
        given["num_inference_steps"] = self.num_steps
        if labels is not None:
            given["class_labels"] = labels.tolist()
        else:
            given["batch_size"] = len(streams)
        self.pipeline.to(self.device)
        try:
            images = np.asarray(self.pipeline(**given).images)
        except Exception as error:  # whatever diffusers says of parts that do not fit
            name, reason = type(self.pipeline).__name__, " ".join(str(error).split())[:200]
            raise InputError(f"{name} of diffusers fails: {reason}") from error
        found = torch.from_numpy(np.ascontiguousarray(images)).float()
        found = found if found.ndim == 4 else found[..., None]
        return found.permute(0, 3, 1, 2).clamp(0, 1)


def class_name(folder: Path) -> str:
    """Return which pipeline a folder holds; empty if it holds none, or not as a pipeline does."""
    path = folder / INDEX
    index = load_json(path) if path.is_file() else None
    name = index.get("_class_name") if isinstance(index, dict) else None
    if isinstance(name, list):
        raise InputError(f"{path} asks for a pipeline with code of its own; none is run here")
    return name if isinstance(name, str) else ""


def load_pipeline(folder: Path, num_steps: int | None = None) -> PipelineGenerator:
    """Load a pipeline of images that needs no prompt.

    Raises:
        InputError: It needs more than a seed and a class, brings code, or its files are broken.
    """
    import diffusers

    name = class_name(folder)
    kind = _class(diffusers, name, diffusers.DiffusionPipeline, f"{folder / INDEX}: pipeline")
    parameters = inspect.signature(kind.__call__).parameters
    needed = [n for n, p in parameters.items() if p.default is p.empty and p.kind == 1]
    others = [n for n in needed if n not in ("self", "class_labels")]
    if others or "generator" not in parameters or "num_inference_steps" not in parameters:
        what = " and ".join(others) or "no seed"
        raise InputError(f"{name} takes {what}; burnish samples pipelines of a seed and a class")
    if not {"batch_size", "class_labels"} & parameters.keys():
        raise InputError(f"{name} makes one image at a time; it is not known here")
    if found := [*folder.glob("*.py"), *folder.glob("*/*.py")]:
        raise InputError(f"{found[0]} is code, and none is run here; take it away")
    index: dict[str, Any] = load_json(folder / INDEX)
    parts = {}
    for part in inspect.signature(kind.__init__).parameters:
        value = index.get(part)
        if isinstance(value, list) and value not in ([None, None], []):
            parts[part] = _part(folder, part, value)
    try:
        pipeline = kind(**parts)
    except Exception as error:  # whatever diffusers says of missing or wrong parts
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: the parts do not make a {name}: {reason}") from error
    return PipelineGenerator(pipeline, num_steps, {"pipeline": name, "source": str(folder)})


def _part(folder: Path, name: str, value: list[Any]) -> Any:
    """Return a part of a pipeline: a model with all of its weights, or a scheduler."""
    import diffusers

    if len(value) != 2 or value[0] != "diffusers":
        raise InputError(
            f"{folder / INDEX}: {shown(name)} is {shown(value)}, no part of diffusers"
        )
    both = (diffusers.ModelMixin, diffusers.SchedulerMixin)
    kind = _class(diffusers, value[1], both, f"{folder / INDEX}: {name}")
    is_model = issubclass(kind, diffusers.ModelMixin)
    path = folder / name / ("config.json" if is_model else "scheduler_config.json")
    config = load_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no settings")
    _bounded(config, path)
    if not is_model:
        return _tried(lambda: kind.from_config(config), path)
    outline(lambda: kind.from_config(config), str(path))
    if not list((folder / name).glob("*.safetensors")):
        raise InputError(f"{folder / name} holds no .safetensors; other weights are not read")
    model, report = _tried(
        lambda: kind.from_pretrained(
            folder / name, use_safetensors=True, local_files_only=True, output_loading_info=True,
            torch_dtype=torch.float32,
        ), folder / name,
    )  # fmt: skip
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if report.get(fault):
            which = shown(next(iter(report[fault])))
            raise InputError(f"{folder / name}: {fault.replace('_', ' ')}: {which}")
    for weight, values in model.state_dict().items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise InputError(f"{folder / name}: {weight} holds NaN or infinite values")
    return model


def _class(module: Any, name: Any, base: Any, where: str) -> Any:
    found = getattr(module, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(f"{where} {shown(name)} is not one of diffusers, or needs more libraries")
    return found


def _tried(make: Any, path: Path) -> Any:
    try:
        return make()
    except Exception as error:  # of any kind, from settings or files that do not fit
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: {reason}") from error


def _bounded(config: dict[str, Any], path: Path) -> None:
    """Refuse numbers that would only take memory or time, before anything is built."""
    for name, value in config.items():
        numbers = value if isinstance(value, list) else [value]
        most = MAX_COUNT if "layers" in name or "blocks" in name else MAX_NUMBER
        big = [one for one in numbers if isinstance(one, int | float) and abs(one) > most]
        if big or len(numbers) > 2 * MAX_NUMBER // 1000:
            raise InputError(f"{path}: {shown(name)} is {shown(value)}; at most {most} are built")


def _shape(main: Any, decoder: Any) -> tuple[int, int, int]:
    """Return (C, H, W) of the images: those of the network, or what a decoder makes of them."""
    size, channels = main.config.get("sample_size"), main.config.get("in_channels")
    height, width = (size, size) if isinstance(size, int) else (size or (None, None))
    if decoder is not None:
        scale = 2 ** (len(decoder.config["block_out_channels"]) - 1)
        height, width = height and height * scale, width and width * scale
        channels = decoder.config["out_channels"]
    if not (isinstance(height, int) and isinstance(width, int) and channels in (1, 3)):
        raise InputError("the size of its images (sample_size, in_channels) is not known")
    return channels, height, width
