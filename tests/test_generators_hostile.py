"""Checkpoints of generators that are broken or hostile: one line, exit code 2, no trace."""

import pickle
import time

import pytest
import torch
from edm_files import SONG, state_of, write
from foreign_setup import Touch
from generator_files import biggan, biggan_deep, mimicry
from openai_files import unet

from burnish.cli.main import main

NAN = torch.nan


def saved(path, state):
    torch.save(state, path)
    return path


def without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


def inside(file, **changes):
    return {**file, "model_state_dict": {**file["model_state_dict"], **changes}}


def bare(file, *names):
    return {**file, "model_state_dict": without(file["model_state_dict"], *names)}


FAULTS = {
    "empty": (lambda p: p.write_bytes(b""), "empty"),
    "text": (lambda p: p.write_text("hello"), "checkpoint"),
    "half of it": (
        lambda p: p.write_bytes(saved(p, mimicry()).read_bytes()[:3000]), "not a zip"),
    "code": (lambda p: saved(p, {"ema": Touch(p.parent / "trace")}), ""),
    "code in a plain pickle": (
        lambda p: p.write_bytes(pickle.dumps({"ema": Touch(p.parent / "trace", "eval")})), ""),
    "a module": (lambda p: saved(p, {"l1.weight": torch.zeros(2), "net": 3}), "no tensor"),
    "a classifier": (lambda p: saved(p, {"conv1.weight": torch.zeros(4, 3)}), "no generator"),
    "a list": (lambda p: saved(p, [mimicry()]), "no dictionary"),
    "no tensors": (lambda p: saved(p, {}), "no dictionary"),
    "names that are numbers": (lambda p: saved(p, {1: torch.zeros(2)}), "no tensor"),
    "a control sequence": (
        lambda p: saved(p, inside(mimicry(), **{"\x1b[2Jb": torch.zeros(2)})), "too many"),
    "whole numbers": (
        lambda p: saved(p, inside(mimicry(), **{"l1.bias": torch.zeros(128).long()})), "int64"),
    "a bias missing": (lambda p: saved(p, bare(mimicry(), "l1.bias")), "l1.bias is missing"),
    "a block missing": (
        lambda p: saved(p, bare(mimicry(), "block3.c1.weight")), "blocks are numbered"),
    "the first layer missing": (lambda p: saved(p, bare(mimicry(), "l1.weight")), "l1.weight"),
    "no square": (
        lambda p: saved(p, inside(mimicry(), **{"l1.weight": torch.zeros(24, 5)})), "no square"),
    "a flat weight": (
        lambda p: saved(p, inside(mimicry(), **{"l1.weight": torch.zeros(8)})), "shape [8]"),
    "NaN": (
        lambda p: saved(p, inside(mimicry(), **{"l1.bias": torch.full((128,), NAN)})), "NaN"),
    "a variance below 0": (
        lambda p: saved(p, inside(mimicry(), **{"b5.running_var": -torch.ones(8)})), "variance"),
    "an empty block": (
        lambda p: saved(p, inside(mimicry(), **{"block2.c1.weight": torch.zeros(0)})), "shape"),
    "BigGAN: u0 of another size": (
        lambda p: saved(p, {**biggan(), "linear.u0": torch.zeros(1, 3)}), "no weight of its size"),
    "BigGAN: u0 of zeros": (
        lambda p: saved(p, {**biggan(), "linear.u0": torch.zeros(1, 256)}), "spectral norm"),
    "BigGAN: u0 without a weight": (
        lambda p: saved(p, {**biggan(), "other.u0": torch.ones(1, 3)}), "no weight"),
    "BigGAN: sums of statistics": (
        lambda p: saved(p, {**biggan(), "blocks.0.0.bn1.bn.accumulation_counter": torch.ones(1)}),
        "standing statistics"),
    "BigGAN: a gap among blocks": (
        lambda p: saved(p, {k: v for k, v in biggan().items() if ".1.0.conv1.w" not in k
                            and ".1.0.conv1.u" not in k}),
        "blocks are numbered"),
    "BigGAN-deep: no v": (
        lambda p: saved(p, without(biggan_deep(), "generator.gen_z.weight_v")), "weight_v"),
    "BigGAN-deep: fewer statistics": (
        lambda p: saved(p, {**biggan_deep(), "generator.bn.running_means": torch.zeros(50, 8)}),
        "running_means is of shape"),
    "OpenAI: no attention": (
        lambda p: saved(p, unet(attends=(False, False))), "attention"),
    "OpenAI: heads that do not fit": (
        lambda p: saved(p, unet(widths=(32, 96))), "heads of 64"),
    "OpenAI: a block number of a billion": (
        lambda p: saved(p, {**unet(), "input_blocks.1000000000.0.x": torch.zeros(1)}), "blocks"),
    "OpenAI: surplus": (
        lambda p: saved(p, {**unet(), "extra.weight": torch.zeros(1)}), "extra.weight"),
    "OpenAI: no upsampling": (
        lambda p: saved(p, {k: v for k, v in unet().items() if ".2.in_" not in k}), "levels"),
    "EDM: a tensor missing": (
        lambda p: write(p, SONG, without(state_of(SONG), "map_layer0.bias")), "map_layer0.bias"),
    "EDM: NaN": (
        lambda p: write(p, SONG, {**state_of(SONG), "map_layer0.bias": torch.full((32,), NAN)}),
        "NaN"),
    "EDM: no settings": (lambda p: write(p, None, state_of(SONG)), "settings"),
    "EDM: settings that are lists": (
        lambda p: write(p, {**SONG, "model_type": ["SongUNet"]}, state_of(SONG)), "model_type"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_refused_in_one_line_and_leaves_nothing(fault, tmp_path, capfd, monkeypatch):
    make, message = FAULTS[fault]
    torch.manual_seed(0)
    make(tmp_path / "ct_imagenet64.pt")
    monkeypatch.chdir(tmp_path)
    before, began = {p.name for p in tmp_path.iterdir()}, time.perf_counter()
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["sample", "ct_imagenet64.pt", "--seeds", "0-1", "--out", "out.npz"])
    said = capfd.readouterr().err
    assert caught.value.code == 2 and message in said, said
    assert said.startswith("burnish: ") and said.count("\n") == 1, said
    assert len(said) < 500 and "\x1b" not in said and "Traceback" not in said
    assert {p.name for p in tmp_path.iterdir()} == before and "trace" not in before
    assert time.perf_counter() - began < 10


def test_the_same_files_without_a_fault_are_sampled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "G.pth", mimicry(num_classes=4))
    saved(tmp_path / "ct_imagenet64.pt", unet())
    write(tmp_path / "it.pkl", SONG, state_of(SONG))
    (tmp_path / "labels.txt").write_text("2\n1\n")
    for command in (
        ["G.pth", "--as", "mimicry", "--labels", "labels.txt"],
        ["ct_imagenet64.pt", "--timesteps", "106,0", "--precision", "bfloat16", "--label", "1"],
        ["it.pkl", "--num-steps", "1", "--labels", "balanced"],
    ):
        main(["sample", *command, "--seeds", "0-1", "--out", "out.npz", "--force"])
