"""Batch norm over the batches of all processes, so that several train as one process does."""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from burnish.errors import InputError


def share_batch_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose batch norms take the statistics of all processes in train mode.

    Weights and buffers are the same tensors under the same names. On a GPU the layers are those of
    ``torch.nn.SyncBatchNorm``, which has no CPU kernels; on a CPU those of this module.

    Raises:
        InputError: On a CPU, a batch norm is none of ``torch.nn.BatchNorm2d``.
    """
    if device.type != "cpu":
        from timm.layers.norm_act import convert_sync_batchnorm

        return convert_sync_batchnorm(network)
    for name, module in network.named_modules():
        if type(module) is nn.BatchNorm2d:
            shared = SharedBatchNorm(module.num_features)
            # The same parameters and buffers, not copies.
            shared.__dict__.update({**module.__dict__})
            network.set_submodule(name, shared)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise InputError(
                f"{name} is a {type(module).__name__}, which cannot train on several CPU "
                "processes; set batch_norm: frozen, or use GPUs"
            )
    return network


class SharedBatchNorm(nn.BatchNorm2d):
    """``BatchNorm2d`` whose batch is that of all processes; each has equally many images."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``[B, C, H, W]`` by the moments of all processes if in train mode."""
        if not self.training or not distributed.is_initialized():
            return super().forward(input)
        values = input.float()
        variances, centers = torch.var_mean(values, (0, 2, 3), correction=0)
        # Of each process [2, C]; merged by Chan's formula, which subtracts no large numbers.
        moments = _Gather.apply(torch.stack([centers, variances]))
        center = moments[:, 0].mean(0)
        variance = (moments[:, 1] + (moments[:, 0] - center).square()).mean(0)
        count = len(moments) * input[:, 0].numel()
        self._remember(center.detach(), variance.detach(), count)
        values = (values - _wide(center)) * _wide((variance + self.eps).rsqrt())
        if self.affine:
            values = values * _wide(self.weight) + _wide(self.bias)
        return values.to(input.dtype)

    @torch.no_grad()
    def _remember(self, center: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        weight = self.momentum
        if weight is None:
            weight = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(center, weight)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), weight)


class _Gather(torch.autograd.Function):
    """The values of all processes, ``[P, ...]``; their gradients are summed over processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, values.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total[distributed.get_rank()]


def _wide(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
