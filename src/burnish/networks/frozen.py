"""A network as a guide needs it: weights held still, gradients with respect to the image only.

What that allows, and what it saves:

* Batch norm is a fixed affine map, gamma (x - mu) / sqrt(var + eps) + beta, and goes into the
  convolution before it: two passes over memory fewer, forward and backward, per layer.
* Weights are cast to the compute precision once, not at every call.
* Channels-last, which is how the fast convolution kernels want their data.

The network's graph is read by torch.fx. A network that fx cannot read (its path depends on the
data) keeps its batch norms and gets the other two.
"""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from burnish.errors import unknown

__all__ = ["PRECISIONS", "Frozen"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Frozen(nn.Module):
    """A frozen copy of a network; ``refresh`` takes over the original's weights again.

    Args:
        network: ``images [B, C, H, W] in [0, 1] -> logits [B, K]``; not changed.
        precision: ``float32``, ``bfloat16`` or ``float16`` in convolutions and linear layers;
            other layers follow torch's autocast. Images stay float32.

    Raises:
        InputError: There is no such precision.
    """

    def __init__(self, network: nn.Module, precision: str = "float32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        self.precision = precision
        self._pairs: list[tuple[str, str]] = []
        copied = copy.deepcopy(network).eval()
        try:
            graph = _Tracer().trace(copied)
        except Exception:  # fx raises whatever the network's own code raises on a stand-in tensor
            self.network = copied
        else:
            self._pairs = _foldable(copied, graph)
            # First every module of its own: a norm may serve one convolution and stay for another.
            self.network = fx.GraphModule(copied, graph)
            for conv, norm in self._pairs:
                _replace(self.network, conv, _with_bias(self.network.get_submodule(conv)))
                _replace(self.network, norm, _after_norm(self.network.get_submodule(norm)))
        dtype = PRECISIONS[precision]
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(dtype)
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.eval().requires_grad_(False)
        self.refresh(network)

    @torch.no_grad()
    def refresh(self, network: nn.Module) -> None:
        """Take over the weights of a network of the same architecture, folding anew."""
        theirs = {
            **dict(network.named_parameters(remove_duplicate=False)),
            **dict(network.named_buffers(remove_duplicate=False)),
        }
        folded = {f"{conv}.{name}" for conv, _ in self._pairs for name in ("weight", "bias")}
        ours = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        for name, value in ours.items():
            # fx keeps constants of the forward function as buffers that the original lacks.
            if name not in folded and name in theirs:
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
        images = images.contiguous(memory_format=torch.channels_last)
        dtype = PRECISIONS[self.precision]
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            return self.network(images)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # timm's batch norms carry their activation with them; inside they are full of branches.
        return isinstance(m, nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _foldable(network: nn.Module, graph: fx.Graph) -> list[tuple[str, str]]:
    """Return (convolution, batch norm) names where the norm is the convolution's only reader.

    Both modules occur once in the graph; one that is called twice cannot be changed for one call.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    calls: dict[int, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            key = id(modules[str(node.target)])
            calls[key] = calls.get(key, 0) + 1
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = modules[str(before.target)], modules[node.target]
        once = calls[id(conv)] == calls[id(norm)] == 1
        if type(conv) is nn.Conv2d and once and norm.running_mean is not None:
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _with_bias(conv: nn.Module) -> nn.Module:
    assert isinstance(conv, nn.Conv2d)
    if conv.bias is None:
        conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
    return conv


def _after_norm(norm: nn.Module) -> nn.Module:
    """Return what is left of a batch norm once its affine map has gone."""
    rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    return nn.Sequential(*rest) if rest else nn.Identity()


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
