"""Guides from text: the formula of CLIP, any size of images, captions as labels, hostile files."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from burnish.cli.main import main
from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.guide.text import caption_labels, load_text_guide, read_texts
from burnish.jobs.options import JobOptions
from burnish.jobs.refine import plan_refine
from burnish.refinement.refiner import Refiner
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples

open_clip = pytest.importorskip("open_clip")

VISION = {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8}
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
CONFIG = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]
CLASSES = ["cat", "dog", "small bird"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return open_clip.CLIP(**copy.deepcopy(CONFIG)).eval()


@pytest.fixture
def folder(model, tmp_path):
    """A folder of open_clip with a tiny random CLIP."""
    path = tmp_path / "tiny"
    path.mkdir()
    values = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (path / "open_clip_config.json").write_text(json.dumps(values))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path / "open_clip_model.safetensors")
    return path


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\ufeff" + "\r\n".join(CLASSES) + "\n\n")
    return path


@torch.no_grad()
def expected(model, images, texts):
    """Return the logits of Radford et al. 2021, figure 3, by open_clip's own functions."""
    scaled = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    words = open_clip.SimpleTokenizer(context_length=12)(texts)
    rows = model.encode_image(scaled, normalize=True), model.encode_text(words, normalize=True)
    return model.logit_scale.exp() * rows[0] @ rows[1].T


def test_logits_are_scaled_cosines_of_images_and_prompts(model, folder, prompts):
    guide, images = load_guide(f"clip/{folder}@{prompts}"), torch.rand(3, 3, 16, 16)
    wanted = expected(model, images, [f"a photo of a {one}" for one in CLASSES])
    torch.testing.assert_close(guide(images), wanted, atol=1e-5, rtol=1e-5)
    assert guide.card["texts"] == CLASSES and "not how real" in guide.card["kind"]
    assert "realness" not in guide.card
    own = load_text_guide(f"clip/{folder}", CLASSES, "a drawing: {}")
    torch.testing.assert_close(
        own(images), expected(model, images, [f"a drawing: {one}" for one in CLASSES])
    )
    assert own.card["sha256"] != guide.card["sha256"]  # other prompts are another guide


@pytest.mark.parametrize("shape", [(3, 40, 24), (3, 10, 16), (1, 28, 28)])
def test_images_of_any_size_are_resized_with_a_gradient_at_every_pixel(model, folder, shape):
    guide, images = load_text_guide(f"clip/{folder}", CLASSES), torch.rand(2, *shape)
    scaled = interpolate(images.expand(-1, 3, -1, -1), (16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(guide(images), guide(scaled))
    images.requires_grad_()
    guide(images)[:, 1].sum().backward()
    assert images.grad is not None and bool((images.grad != 0).any(1).all())


def test_a_saved_guide_needs_no_text_tower_and_has_the_same_logits(folder, tmp_path):
    guide, images = load_text_guide(f"clip/{folder}", CLASSES), torch.rand(2, 3, 16, 16)
    guide.save_pretrained(tmp_path / "saved")
    loaded = load_guide(tmp_path / "saved")
    assert torch.equal(loaded(images), guide(images))
    names = " ".join(loaded.state_dict())
    assert "token_embedding" not in names and "texts" in names


@pytest.mark.parametrize("kind", ["state", "custom", "bin"])
def test_weights_are_read_from_a_file_and_from_other_layouts(model, folder, kind):
    """A wrapped state dict; a text tower in a module of its own; a plain pickle of tensors."""
    wanted = load_text_guide(f"clip/{folder}", CLASSES)
    (folder / "open_clip_model.safetensors").unlink()
    state = model.state_dict()
    if kind == "state":
        state = {"state_dict": {f"module.{n}": v for n, v in state.items()}, "epoch": 3}
    if kind == "custom":
        values = {"model_cfg": {**CONFIG, "custom_text": True},
                  "preprocess_cfg": {"mean": MEAN, "std": STD}}  # fmt: skip
        (folder / "open_clip_config.json").write_text(json.dumps(values))
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(load_text_guide(f"clip/{folder}", CLASSES)(images), wanted(images))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_refining_raises_the_probability_of_the_class(folder, precision):
    guide = load_text_guide(f"clip/{folder}", CLASSES)
    settings = RefineSettings(objective="ce", eps=1.0, step_size=0.3, num_steps=5)
    samples = Samples(torch.rand(3, 3, 16, 16), None, torch.arange(3))
    labels = torch.tensor([0, 1, 2])
    (done,) = Refiner(guide, settings, precision=precision)([samples], labels)
    before, after = (
        guide(images).softmax(1).gather(1, labels[:, None])
        for images in (samples.images, done.samples.images)
    )
    assert bool((after > before + 0.02).all())
    assert float((done.samples.images - samples.images).flatten(1).norm(dim=1).max()) <= 1 + 1e-5


@pytest.fixture
def samples(tmp_path):
    path = tmp_path / "samples.npz"
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    np.savez(path, arr_0=images, arr_1=np.array([0, 1, 2, 0]))
    return path


def test_captions_are_classes_and_each_image_climbs_the_cosine_with_its_own(
    model, folder, samples, tmp_path
):
    captions = tmp_path / "captions.txt"
    lines = ["a red dog", "rain", "rain", "a cat"]
    captions.write_text("\n".join(lines))
    plan = plan_refine(samples, f"clip/{folder}", tmp_path / "out.npz", captions=captions, eps=1.0)
    assert plan.settings.objective == "logit" and plan.opened.guide.card["texts"] == [
        "a red dog", "rain", "a cat",
    ]  # fmt: skip
    plan.run()
    with np.load(tmp_path / "out.npz") as out, np.load(samples) as given:
        assert out["arr_1"].tolist() == [0, 1, 1, 2]
        sides = [torch.from_numpy(one["arr_0"]).permute(0, 3, 1, 2) / 255 for one in (given, out)]
    before, after = (expected(model, side, lines).diag() for side in sides)
    assert bool((after > before).all())
    # Other captions are another job.
    captions.write_text("\n".join([*lines[:3], "a dog"]))
    again = plan_refine(samples, f"clip/{folder}", tmp_path / "o.npz", captions=captions, eps=1.0)
    assert again.guide_sha256 != plan.guide_sha256


def test_another_process_opens_the_plan_with_its_texts(folder, prompts, samples, tmp_path):
    from burnish.jobs.worker import open_plan

    options = {"prompts": prompts, "template": "{}", "eps": 1.0, "num_steps": 1}
    plan = plan_refine(
        samples, f"clip/{folder}", tmp_path / "out.npz", job=JobOptions(), **options
    )
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "plan.json").write_text(json.dumps(plan.frozen()))
    again = open_plan(tmp_path / "job")
    assert again.compared() == plan.compared()


def test_equal_captions_share_a_class():
    assert caption_labels(["b", "a", "b"])[0] == ["b", "a"]
    assert caption_labels(["b", "a", "b"])[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x89PNG\r\n\xff\xfe", "not text in UTF-8"),
        (b"cat\ndog\ncat\n", "lines 1 and 3 are the same, 'cat'"),
        (b"cat\n\ndog\n", "line 2 is empty"),
        (b"cat\n\x1b[2Jdog\n", "line 2 holds control characters"),
        (b"cat\n" + b"x" * 1001, "line 2 is longer than 1000"),
        ("\n".join(map(str, range(100_001))).encode(), "100,001 classes; give 1 to 100,000"),
        (b"x\n" * 2**20, "too large"),
    ],
    ids=range(9),
)
def test_a_bad_file_of_prompts_is_one_line(content, message, tmp_path, monkeypatch):
    monkeypatch.setattr("burnish.guide.text.MOST_BYTES", 2**20)
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_texts(path)
    assert "\n" not in str(caught.value)


def _config(**changes):
    return lambda folder: (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {**CONFIG, **changes}})
    )


def _prepared(**values):
    return lambda folder: (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CONFIG, "preprocess_cfg": values})
    )


def _weights(change):
    def write(folder):
        state = torch.load(folder / "copy.pt", weights_only=True)
        change(state)
        save_file(state, folder / "open_clip_model.safetensors")

    return write


HUGE = {**VISION, "width": 2**17, "layers": 200}
BREAKS = [
    (lambda f: (f / "open_clip_config.json").unlink(), "there is no file"),
    (lambda f: (f / "open_clip_config.json").write_text("[]"), "holds no model_cfg"),
    (lambda f: (f / "open_clip_config.json").write_text("{" * 9000), "is not JSON"),
    (lambda f: (f / "open_clip_model.safetensors").unlink(), "holds no weights"),
    (lambda f: (f / "open_clip_model.safetensors").write_bytes(b"x"), "not a safetensors file"),
    (_config(vision_cfg=HUGE), "too many|not enough|out of range"),
    (_config(vision_cfg={**VISION, "layers": 10**6}), "layers is out of range|layers must be"),
    (_config(vision_cfg={**VISION, "image_size": 2**16}), "image_size must be 8 to 4096"),
    (_config(vision_cfg={**VISION, "patch_size": 0}), "cannot build"),
    (_config(vision_cfg={**VISION, "x": 1}), "unknown key of vision_cfg"),
    (_config(vision_cfg={"timm_model_name": "hf-hub:me/x"}), "no model of timm"),
    (_config(vision_cfg=3), "vision_cfg must be keys and values"),
    (_config(text_cfg={**TEXT, "hf_model_name": "me/x"}), "transformers"),
    (_config(text_cfg={**TEXT, "hf_tokenizer_name": "me/x"}), "transformers"),
    (_config(text_cfg={**TEXT, "vocab_size": 9}), "vocab_size|embedding|shape|fewer words"),
    (_config(embed_dim=16), "is of shape"),
    (_config(multimodal_cfg={}), "writes captions"),
    (_prepared(mean=1), "three numbers each"),
    (_prepared(mean=[2, 0, 0]), "three numbers each"),
    (_prepared(std=[0, 0, 0]), "std above 0"),
    (_weights(lambda s: s.pop("ln_final.bias")), "ln_final.bias is missing"),
    (_weights(lambda s: s.update(more=torch.ones(1))), "'more' is one tensor too many"),
    (_weights(lambda s: s["ln_final.bias"].fill_(torch.nan)), "NaN or infinite"),
]


@pytest.mark.parametrize("place", range(len(BREAKS)))
def test_a_broken_folder_is_one_line(place, model, folder):
    damage, message = BREAKS[place]
    torch.save(model.state_dict(), folder / "copy.pt")
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_text_guide(f"clip/{folder}", CLASSES)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--captions", "{two}"], "4 images but 2 captions; give one per image"),
        (["--captions", "{two}", "--prompts", "{prompts}"], "but not both"),
        (["--captions", "{two}", "--labels", "pseudo"], "leave out labels"),
        (["--prompts", "{none}"], "there is no file"),
        (["--prompts", "{prompts}", "--template", "a photo"], "a template holds {} once"),
        (["--template", "a {}"], "give these"),
        ([], "needs the texts of its classes"),
        (["--prompts", "{prompts}", "--guide", "fashion_mnist"], "are for guides from text"),
        (["--prompts", "{prompts}", "--guide", "clip/\x1b[2J"], "unknown CLIP"),
        (["--prompts", "{prompts}", "--guide", "clip/ViT-B-33:x.pt"], "did you mean 'ViT-B-32'"),
        (["--prompts", "{prompts}", "--guide", "clip/ViT-B-32:x.pt"], "no checkpoint at x.pt"),
        (["--prompts", "{prompts}", "--guide", "clip/{prompts}"], "say of which model"),
    ],
    ids=range(12),
)
def test_bad_options_end_with_one_line_and_code_2(
    options, message, folder, prompts, samples, tmp_path, capsys
):
    (tmp_path / "two.txt").write_text("a\nb\n")
    paths = {"two": tmp_path / "two.txt", "prompts": prompts, "none": tmp_path / "none.txt"}
    for name, path in paths.items():
        options = [one.replace(f"{{{name}}}", str(path)) for one in options]
    out = tmp_path / "out.npz"
    arguments = ["refine", str(samples), "--guide", f"clip/{folder}", "--eps", "1"]
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--out", str(out), *options])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and message in said and said.count("\n") == 1
    assert "\x1b" not in said and not out.exists()


def test_without_open_clip_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("burnish.guide.text.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'burnish\[clip\]'"):
        load_guide("clip/owner/name@classes.txt")


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(folder, tmp_path):
    class Touch:
        def __reduce__(self):
            return (tmp_path / "trace").touch, ()

    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": {"x": Touch()}}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(InputError):
        load_text_guide(f"clip/{folder}", CLASSES)
    assert not (tmp_path / "trace").exists()
