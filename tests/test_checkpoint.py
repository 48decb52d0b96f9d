"""A model is rebuilt from its file alone; faulty files are named and no pickle is run."""

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from burnish import checkpoint
from burnish.checkpoint import load_model, save_model
from burnish.errors import InputError
from burnish.networks.build import build

NETWORK = {
    "name": "convnet",
    "in_channels": 1,
    "num_classes": 3,
    "widths": [4, 6],
    "num_features": 5,
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build(NETWORK)
    model(torch.rand(8, 1, 8, 8))  # moves the statistics of batch norm away from their defaults
    return model.eval()


@pytest.fixture
def images():
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_save_load_needs_the_path_alone(tmp_path, model, images):
    path = tmp_path / "deep" / "model.safetensors"
    card = {"network": NETWORK, "validation": {"accuracy": 0.1 + 0.2}, "name": "é"}
    save_model(path, model, card)
    loaded, found = load_model(path)
    assert found == card and not loaded.training
    assert torch.equal(loaded(images), model(images))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_half_precision_loads_as_float32(tmp_path, model, images):
    save_model(tmp_path / "full.safetensors", model, {"network": NETWORK})
    save_model(tmp_path / "half.safetensors", model, {"network": NETWORK}, half=True)
    loaded, _ = load_model(tmp_path / "half.safetensors")
    for name, tensor in loaded.state_dict().items():
        expected = model.state_dict()[name]
        assert tensor.dtype == expected.dtype
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=5e-3)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.8 * sizes[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())  # the one that was saved


class Touch:
    """Pickled, it makes a file when somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def card_of(**entries):
    return {"card": json.dumps(entries)}


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("missing", "no model at"),
        ("folder", "no model at"),
        ("empty", "not a safetensors"),
        ("garbage", "not a safetensors"),
        ("cut", "not a safetensors"),
        ("foreign", "no burnish card"),
        ("card is no JSON", "the card in .* is not JSON"),
        ("card is a list", "no burnish card"),
        ("no network", "no burnish card"),
        ("unknown network", "did you mean 'convnet'"),
        ("arguments", "unknown argument"),
        ("activation", "did you mean 'gelu'"),
        ("other weights", r"do not fit their card: head.1.bias is of shape \[3\], not \[4\]"),
        ("too few", "do not fit their card: embed.0.bias is missing"),
        ("too many", "do not fit their card: 'other' is one tensor too many"),
        ("integers", "embed.0.bias holds I8, not F64 or F32"),
        ("complex", "embed.0.bias holds C64, not"),
        ("not a number", "embed.0.bias holds NaN or infinite"),
        ("infinite", "embed.0.bias holds NaN or infinite"),
        ("no deviation", "normalize.std must be above 0"),
        ("negative variance", "running_var must be above 0"),
        ("huge", "width must be at least 1"),
        ("too large together", "has 17,684,074,522 weights; too many"),
        ("deep", "num_blocks must be at least 1"),
        ("many classes", "num_classes must be at least 1"),
        ("text for a number", "width: expected a whole number, not 'wide'"),
        ("nested", "is not JSON"),
        ("card with control characters", "control characters"),
    ],
)
def test_faults_are_named(tmp_path, model, case, reason):
    path = tmp_path / "model.safetensors"
    state = dict(model.state_dict())
    save_model(path, model, {"network": NETWORK})
    whole = path.read_bytes()
    path.unlink()
    match case:
        case "missing":
            pass
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "garbage":
            path.write_bytes(bytes(range(256)) * 8)
        case "cut":
            path.write_bytes(whole[:-100])
        case "foreign":
            save_file(state, path, metadata={"format": "pt"})
        case "card is no JSON":
            save_file(state, path, metadata={"card": "{"})
        case "card is a list":
            save_file(state, path, metadata={"card": "[]"})
        case "no network":
            save_file(state, path, metadata=card_of(name="x"))
        case "unknown network":
            save_file(state, path, metadata=card_of(network={**NETWORK, "name": "convet"}))
        case "arguments":
            save_file(state, path, metadata=card_of(network={**NETWORK, "depth": 3}))
        case "activation":
            save_file(state, path, metadata=card_of(network={**NETWORK, "activation": "gellu"}))
        case "other weights":
            save_file(state, path, metadata=card_of(network={**NETWORK, "num_classes": 4}))
        case "too few":
            del state["embed.0.bias"]
            save_file(state, path, metadata=card_of(network=NETWORK))
        case "too many":
            save_file(state | {"other": torch.ones(1)}, path, metadata=card_of(network=NETWORK))
        case "integers" | "complex" | "not a number" | "infinite":
            bias = state["embed.0.bias"]
            others = {"integers": bias.to(torch.int8), "complex": bias.to(torch.complex64),
                      "not a number": bias * math.nan, "infinite": bias + math.inf}  # fmt: skip
            save_file(
                state | {"embed.0.bias": others[case]}, path, metadata=card_of(network=NETWORK)
            )
        case "no deviation":
            save_file(state | {"normalize.std": 0 * state["normalize.std"]}, path,
                      metadata=card_of(network=NETWORK))  # fmt: skip
        case "negative variance":
            name = "layers.1.running_var"
            save_file(state | {name: -state[name]}, path, metadata=card_of(network=NETWORK))
        case "nested":
            save_file(state, path, metadata={"card": "[" * 100_000})
        case "card with control characters":
            save_file(state, path, metadata=card_of(network=NETWORK, name="\x1b[2J"))
        case _:
            more = {"huge": {"width": 10**9}, "too large together": {"width": 4096},
                    "deep": {"num_blocks": 10**6}, "many classes": {"num_classes": 10**12},
                    "text for a number": {"width": "wide"}}[case]  # fmt: skip
            resnet = {"name": "resnet", "in_channels": 1, "num_classes": 3, **more}
            save_file(state, path, metadata=card_of(network=resnet))
    drawn = torch.get_rng_state()
    with pytest.raises(InputError, match=reason) as caught:
        load_model(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), drawn)  # nothing was built, or only in outline


@pytest.mark.parametrize("save", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_not_run(tmp_path, save):
    path, trace = tmp_path / "model.safetensors", tmp_path / "trace"
    with path.open("wb") as file:
        save({"card": Touch(trace)}, file)
    with pytest.raises(InputError, match="not a safetensors"):
        load_model(path)
    assert not trace.exists()
    path = path.rename(tmp_path / "model.pt")
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert trace.exists()  # so the file would have done harm


def test_a_saved_pretrained_model_fetches_nothing(tmp_path, monkeypatch):
    asked = []
    for name in ("build", "sketch"):
        monkeypatch.setattr(
            checkpoint, name, lambda network: asked.append(network) or nn.Linear(2, 1)
        )
    network = {"name": "pretrained", "source": "timm/resnet18", "pretrained": True}
    save_model(tmp_path / "m.safetensors", nn.Linear(2, 1), {"network": network})
    _, card = load_model(tmp_path / "m.safetensors")
    assert asked == [network | {"pretrained": False}] * 2
    assert card["network"] == network  # the card still tells where the weights came from
