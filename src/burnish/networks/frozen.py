r"""Frozen copies of networks: the weights are constants, gradients reach the image only.

This saves work in three ways:

* Batch norm is a fixed affine map,
  :math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`, and is folded into the convolution
  before it. A network whose path depends on the data has no graph for torch.fx to read and keeps
  its batch norms.
* Weights are cast to the compute precision once instead of at every call.
* Data are stored channels-last, the layout that fast convolution kernels take.
"""

import copy
from collections import Counter, OrderedDict
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from burnish.errors import unknown
from burnish.networks.shared_norm import SharedBatchNorm

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Frozen(nn.Module):
    """A frozen copy of a network; :meth:`refresh` copies the original's weights again.

    Args:
        network: ``images [B, C, H, W] in [0, 1] -> logits [B, K]``; not changed.
        precision: ``float32``, ``bfloat16`` or ``float16`` in convolutions and linear layers;
            other layers follow torch's autocast. Images stay float32.
    """

    def __init__(self, network: nn.Module, precision: str = "float32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        self.precision = precision
        self.network = copy.deepcopy(network).eval()
        self._pairs = _foldable(network)
        names = dict(self.network.named_modules(remove_duplicate=False))
        for conv_name, norm_name in self._pairs:
            conv, norm = names[conv_name], names[norm_name]
            assert isinstance(conv, nn.Conv2d)
            if conv.bias is None:
                conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
            # timm's batch norms bring an activation, which stays.
            kept = [(name, getattr(norm, name)) for name in ("drop", "act") if hasattr(norm, name)]
            rest = nn.Sequential(OrderedDict(kept))
            for alias in [name for name, module in names.items() if module is norm]:
                self.network.set_submodule(alias, rest)
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(PRECISIONS[precision])
        self._arrange(torch.channels_last)
        self.eval().requires_grad_(False)
        self.refresh(network)

    def _arrange(self, memory_format: torch.memory_format) -> None:
        self._format = memory_format
        self.network.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]

    def fit(self, images: Tensor) -> None:
        """Try images ``[B, C, H, W]``; store data contiguously if channels-last fails.

        Networks that flatten their features by ``view`` need that. One image is enough.
        """
        try:
            self(images)
        except RuntimeError:
            self._arrange(torch.contiguous_format)

    @torch.no_grad()
    def refresh(self, network: nn.Module) -> None:
        """Copy the weights of a network of the same architecture, and fold them again."""
        theirs = dict(network.named_parameters(remove_duplicate=False))
        theirs |= dict(network.named_buffers(remove_duplicate=False))
        folded = {f"{conv}.{name}" for conv, _ in self._pairs for name in ("weight", "bias")}
        ours = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        for name, value in ours.items():
            if name not in folded:
                value.copy_(theirs[name])
        for conv, norm in self._pairs:
            before: Any = network.get_submodule(conv)
            after: Any = network.get_submodule(norm)
            weight, bias = fuse_conv_bn_weights(
                before.weight, before.bias, after.running_mean, after.running_var, after.eps,
                after.weight, after.bias,
            )  # fmt: skip
            ours[f"{conv}.weight"].copy_(weight)
            ours[f"{conv}.bias"].copy_(bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]``, in the compute precision."""
        images = images.contiguous(memory_format=self._format)
        dtype = PRECISIONS[self.precision]
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            return self.network(images)


_TIMMS = ("timm.layers.norm_act.BatchNormAct2d", "timm.layers.norm_act.SyncBatchNormAct")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # The batch norms of timm contain their activation, and branches that fx cannot trace.
        norms = nn.BatchNorm2d | nn.SyncBatchNorm
        return isinstance(m, norms) or super().is_leaf_module(m, module_qualified_name)


def _foldable(network: nn.Module) -> list[tuple[str, str]]:
    """Return (convolution, batch norm) names where the norm is the convolution's only reader.

    Both are called once, and nothing else reads or shares their weights. The graph only finds
    them; what runs is the network's own code.
    """
    try:
        graph = _Tracer().trace(copy.deepcopy(network).eval())
    except Exception:  # fx passes on whatever the network's code raises on a symbolic tensor
        return []
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[str(n.target)]) for n in graph.nodes if n.op == "call_module")
    owners = Counter(id(p) for m in network.modules() for p in m._parameters.values())
    read = {str(n.target).rpartition(".")[0] for n in graph.nodes if n.op == "get_attr"}

    def alone(name: str) -> bool:
        module = modules[name]
        hooks = [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks]
        weight = module._parameters.get("weight")
        shared = weight is not None and owners[id(weight)] > 1
        return calls[id(module)] == 1 and not hooks and not shared and name not in read

    pairs = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        names = str(before.target), str(node.target)
        conv, norm = (modules[name] for name in names)
        # A parametrized weight (spectral norm, for example) is no parameter and changes by call.
        plain = type(conv) is nn.Conv2d and "weight" in conv._parameters
        # By name, because importing timm takes seconds.
        kind = f"{type(norm).__module__}.{type(norm).__name__}"
        known = type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm, SharedBatchNorm)
        known = known or kind in _TIMMS
        fixed = known and norm.running_mean is not None
        if plain and fixed and all(map(alone, names)):
            pairs.append(names)
    return pairs
