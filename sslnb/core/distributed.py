"""Several processes that act as one: the batch of all ranks is the batch.

Every rank computes the loss of the joint batch from gathered embeddings. Gradients of a gathered tensor are summed
over the ranks on the way back, and DistributedDataParallel takes their mean, so that each rank steps by the gradient
that one process with the joint batch would have. With one process all of this is the identity.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather, all_reduce


def start() -> torch.device | None:
    """Join the processes that ``torchrun`` started; this rank's device, or None without ``torchrun``."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    local = int(os.environ["LOCAL_RANK"])
    on = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if on.type == "cuda":
        torch.cuda.set_device(on)
    dist.init_process_group("nccl" if on.type == "cuda" else "gloo")
    return on


def stop() -> None:
    """Leave the group, if one was joined."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world() > 1 else 0


def gather(x: Tensor) -> Tensor:
    """The tensors [N,…] of all ranks, one below the other [world·N,…], with gradient."""
    return torch.cat(all_gather(x.contiguous())) if world() > 1 else x


def total(x: Tensor) -> Tensor:
    """Sum over the ranks, with gradient."""
    return all_reduce(x) if world() > 1 else x


def any_rank(flag: bool, on: torch.device) -> bool:
    """Whether the flag is up on any rank: what all have to agree on."""
    return bool(total(torch.tensor(float(flag), device=on)) > 0)


class JointBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all ranks on any device; torch's SyncBatchNorm wants a GPU."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions, as in torch's SyncBatchNorm."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        count = world() * x.numel() // x.shape[1]  # the ranks' batches are equally large
        mean = total(x.float().sum(axes)) / count
        centred = x.float() - mean.view(shape)
        variance = total(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / max(1, count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            return (centred * (scale * self.weight).view(shape) + self.bias.view(shape)).to(x.dtype)
        return (centred * scale.view(shape)).to(x.dtype)


def with_joint_batch_norm(module: nn.Module, on: torch.device) -> nn.Module:
    """The same module with its batch norms taking their statistics over all ranks."""
    if on.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            joint = JointBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            # The same tensors: an optimizer may hold them already, and a momentum copy's take no gradient.
            joint._parameters, joint._buffers = child._parameters, child._buffers
            setattr(module, name, joint.train(child.training))
        else:
            with_joint_batch_norm(child, on)
    return module
