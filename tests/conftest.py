"""What several test files share: a fixed seed, an empty cache, one tiny guide for [B, 1, 8, 8]."""

import signal

import pytest
import torch
from torch import nn

from burnish.guide.model import Guide


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard():
    """nohup, and the shell's ``&``, let a process and all below it ignore some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGHUP", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory, monkeypatch):
    """No test reads the real cache or writes to it."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path_factory.mktemp("cache")))


class TinyNet(nn.Module):
    """Smooth, curved and cheap; with batch norm, so that train and eval mode differ."""

    def __init__(self, num_classes=4):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.SiLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(6 * 16, num_classes)

    def forward(self, images):
        return self.head(self.body(4 * (images - 0.5)))


@pytest.fixture
def guide():
    network = TinyNet()
    with torch.no_grad():
        network.head.weight.mul_(4)  # logits that differ by a few units, not by hundredths
        network(torch.rand(64, 1, 8, 8))  # running statistics of something other than nothing
    real = torch.linspace(-2, 2, 101, dtype=torch.float64).tolist()
    return Guide(network, {"realness": {"quantiles": real}}).eval()
