"""EDM's and ECT's pickles: networks, samplers, and what is refused."""

from itertools import pairwise

import pytest
import torch
from edm_files import ADM, NCSN, SONG, denoised, state_of, write

from burnish.errors import InputError
from burnish.generators.load import load_generator
from burnish.seeds import Streams

KINDS = {"ddpm++": SONG, "ncsn++": NCSN, "adm": ADM}


@pytest.mark.parametrize("consistent", [False, True], ids=["edm", "ect"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_that_of_the_original_formula(kind, consistent, tmp_path):
    kwargs, path = KINDS[kind], tmp_path / "it.pkl"
    state = state_of(kwargs)
    write(path, kwargs, state, "ECMPrecond" if consistent else "EDMPrecond")
    model = load_generator(path)
    assert model.num_classes == (kwargs["label_dim"] or None)
    assert model.image_shape == (3, 16, 16) and model.nfe == (1 if consistent else 35)
    loaded = model.network.state_dict()
    assert {name.removeprefix("model."): tuple(v.shape) for name, v in loaded.items()} == {
        name: tuple(v.shape) for name, v in state.items()
    }
    x, sigma = torch.randn(2, 3, 16, 16) * 2, torch.tensor([2.0, 0.05])
    labels = torch.tensor([2, 0]) if kwargs["label_dim"] else None
    with torch.no_grad():
        found = model.network(x, sigma, labels)
        expected = denoised(state, kwargs, x, sigma, labels, consistent)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_heun_is_edms_sampler(tmp_path):
    path = tmp_path / "edm-cifar10-32x32-cond-vp.pkl"
    state = {name: values * 0.5 for name, values in state_of(SONG).items()}
    write(path, SONG, state)
    labels, seeds = torch.tensor([1, 2]), [4, 5]
    found = load_generator(path, 3).sample(seeds, labels).images
    # Algorithm 1 of EDM in float64, with its usual range.
    steps = torch.arange(3, dtype=torch.float64)
    levels = (80 ** (1 / 7) + steps / 2 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    levels = [*levels.tolist(), 0.0]

    def slope(x, t):
        at = torch.full((2,), t)
        with torch.no_grad():
            clean = denoised(state, SONG, x.float(), at, labels).double()
        return (x - clean) / t

    x = Streams(seeds, "noise").normal((3, 16, 16)).double() * levels[0]
    for here, there in pairwise(levels):
        d = slope(x, here)
        euler = x + (there - here) * d
        if there:
            d = (d + slope(euler, there)) / 2
        x = x + (there - here) * d
    torch.testing.assert_close(found, (x / 2 + 0.5).clamp(0, 1).float(), rtol=0, atol=1e-4)
    assert load_generator(path, 3).nfe == 5 and load_generator(path, 3, "euler").nfe == 3


def test_ect_in_two_steps(tmp_path):
    path, seeds = tmp_path / "ect.pkl", [4, 5]
    state = {name: values * 0.5 for name, values in state_of(NCSN).items()}
    write(path, NCSN, state, "ECMPrecond")
    found = load_generator(path, 2).sample(seeds).images
    noise = Streams(seeds, "noise")

    def clean(x, t):
        with torch.no_grad():
            return denoised(state, NCSN, x, torch.full((2,), t), None, True)

    x = clean(80 * noise.normal((3, 16, 16)), 80.0)
    x = clean(x + 0.821 * noise.normal((3, 16, 16)), 0.821)
    torch.testing.assert_close(found, (x / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-4)
    with pytest.raises(InputError, match="1 or 2 steps"):
        load_generator(path, 3)
    with pytest.raises(InputError, match="solver"):
        load_generator(path, 1, "heun")


@pytest.mark.parametrize(
    ("kwargs", "kind", "message"),
    [
        ({}, "VPPrecond", "EDMPrecond"),
        ({}, "Precond", "sample it with its own code"),
        ({"model_type": "DiT"}, "EDMPrecond", "model_type 'DiT'"),
        ({"encoder_type": "skip"}, "EDMPrecond", "encoder_type 'skip'"),
        ({"model_channels": 10**9}, "EDMPrecond", "model_channels"),
        ({"num_blocks": 10**9}, "EDMPrecond", "num_blocks"),
        ({"channel_mult": [1, 2, 2, 2, 2, 2, 2]}, "EDMPrecond", "channel_mult"),
        ({"channel_mult": [1, 3]}, "EDMPrecond", "is of shape"),
        ({"label_dim": 4}, "EDMPrecond", "map_label.weight is of shape"),
        ({"augment_dim": 0}, "EDMPrecond", "one tensor too many"),
        ({"sigma_max": "much"}, "EDMPrecond", "sigma_max"),
        ({"sigma_min": 90.0}, "EDMPrecond", "sigma_max must be above"),
        ({"resample_filter": [1, -1]}, "EDMPrecond", "resample_filter"),
    ],
)
def test_other_networks_and_settings_are_refused(kwargs, kind, message, tmp_path):
    path = tmp_path / "it.pkl"
    write(path, {**SONG, **kwargs}, state_of(SONG), kind)
    with pytest.raises(InputError, match=message) as caught:
        load_generator(path)
    assert len(str(caught.value)) < 600 and str(path) in str(caught.value)


def test_half_precision_files_are_read(tmp_path):
    write(tmp_path / "it.pkl", ADM, state_of(ADM), half=True)
    model = load_generator(tmp_path / "it.pkl", 1)
    assert all(v.dtype == torch.float32 for v in model.network.state_dict().values())
    assert model.sample([1], torch.tensor([0])).images.shape == (1, 3, 16, 16)
