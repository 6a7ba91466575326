"""AdamW, clipping and learning-rate schedules with one rate per seat."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from softcue.batch import sent


class SeatAdamW:
    """AdamW (Loshchilov and Hutter, 2019) on parameters whose axis 0 is the seat axis.

    Rate, decay, clip and steps are per seat.

    With one seat any parameter will do, an encoder's own included. shares: of each parameter, what part of
    the rate it learns at; None: what part each seat says at each step (its head's).
    """

    betas = 0.9, 0.999  # torch's and transformers' defaults, and those of every published recipe here
    eps = 1e-8

    def __init__(
        self, parameters: Sequence[nn.Parameter], seats: int, shares: Sequence[float | None] = ()
    ) -> None:
        self.parameters = list(parameters)
        self.shares: list[float | None] = list(shares) or [1.0] * len(self.parameters)
        self.seats = seats
        # per seat, so that a seat reused for the next job starts afresh
        self.steps = torch.zeros(seats, device=self.parameters[0].device)
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        # by parameter's number: (A, ..) what part of the rate each of its numbers learns at
        self.units: dict[int, Tensor] = {}
        # by parameter's number: where a sparse gradient is laid out, zeros between steps
        self.dense: dict[int, Tensor] = {}

    @torch.no_grad()
    def step(self, rate: Tensor, decay: Tensor, clip: Tensor, head: Tensor | None = None) -> Tensor:
        """Update once with (A,) rate, decay, clip and head share, which are on the CPU.

        A rate of 0 leaves a seat's numbers alone; a clip of inf does not clip.

        head: the share of parameters that have none of their own, or None: 1. Returns the gradient norm of
        each seat before clipping, (A,), and clears the gradients.
        (A,), (A,), (A,), (A,) -> (A,) norms of the gradients.
        """
        told = torch.stack([rate, decay, clip, torch.ones_like(rate) if head is None else head])
        grads = [self._gradient(i, p) for i, p in enumerate(self.parameters)]
        norm = self._norm(grads)
        there = sent(told, norm.device)
        shrink = (there[2] / (norm + 1e-6)).clamp(max=1.0)
        self.steps += there[0] > 0
        if self.seats == 1:
            self._one(grads, float(told[0]), float(told[1]), float(told[3]), shrink)
        else:
            self._many(grads, there[0], there[1], there[3], shrink)
        for i, p in enumerate(self.parameters):
            if p.grad is not None and p.grad.is_sparse:
                self.dense[i].index_fill_(0, p.grad._indices()[0], 0.0)
            p.grad = None
        return norm

    def measure(self, seat: int, units: Sequence[Tensor | None]) -> None:
        """Let a seat's numbers learn at a part of the rate: one for each parameter, None for all of it."""
        for i, unit in enumerate(units):
            if unit is not None and i not in self.units:
                self.units[i] = torch.ones_like(self.parameters[i])
        for i, kept in self.units.items():
            own = units[i] if i < len(units) else None
            kept[seat] = 1.0 if own is None else own

    def _gradient(self, number: int, parameter: nn.Parameter) -> Tensor:
        """Return a parameter's gradient.

        That of a few rows is built in memory that is kept: fresh zeros for a whole vocabulary cost more than
        a layer.
        """
        grad = parameter.grad
        if grad is None:
            return torch.zeros_like(parameter)
        if not grad.is_sparse:
            return grad
        if number not in self.dense:
            self.dense[number] = torch.zeros_like(parameter)
        return self.dense[number].index_add_(0, grad._indices()[0], grad._values())

    def _norm(self, grads: Sequence[Tensor]) -> Tensor:
        """Return the norm of all a seat's gradients together: (A,)."""
        if self.seats == 1:
            return torch.nn.utils.get_total_norm(grads).float().view(1)
        return torch.stack([g.reshape(self.seats, -1).float().square().sum(1) for g in grads]).sum(0).sqrt()

    def _one(self, grads: list[Tensor], rate: float, decay: float, head: float, shrink: Tensor) -> None:
        """Update by torch's fused kernel, which takes one rate.

        An encoder's 23 million numbers take a tenth of the time of the steps one by one.
        """
        if rate == 0:
            return
        shares = [head if share is None else share for share in self.shares]
        earlier = {i: self.parameters[i].clone() for i in self.units}
        for share in dict.fromkeys(shares):  # a head with the whole rate goes with the rest in one call
            own = [i for i, other in enumerate(shares) if other == share]
            parameters, gradients, first, second = (
                [of[i] for i in own] for of in (self.parameters, grads, self.first, self.second)
            )
            # one for each: the kernel counts them on
            before = list((self.steps - 1).repeat(len(own)).unbind())
            adamw(
                parameters,
                gradients,
                first,
                second,
                [],
                before,
                fused=True,
                grad_scale=(1 / shrink).view(()),
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=rate * share,
                weight_decay=decay,
                eps=self.eps,
                maximize=False,
            )
        for i, numbers in earlier.items():
            self.parameters[i].copy_(numbers.lerp(self.parameters[i], self.units[i]))

    def _many(
        self, grads: Sequence[Tensor], rate: Tensor, decay: Tensor, head: Tensor, shrink: Tensor
    ) -> None:
        age = self.steps.clamp(min=1)
        beta1, beta2 = self.betas
        for i, (p, g, m, v, share) in enumerate(
            zip(self.parameters, grads, self.first, self.second, self.shares, strict=True)
        ):
            own = _wide(rate * (head if share is None else share), p) * self.units.get(i, 1.0)
            g = g * _wide(shrink, g)
            m.lerp_(g, 1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            root = (v / _wide(1 - beta2**age, v)).sqrt_().add_(self.eps)
            p.mul_(1 - own * _wide(decay, p))
            p.sub_(m / root * (own / _wide(1 - beta1**age, p)))

    @torch.no_grad()
    def reset(self, seat: int) -> None:
        """Forget a seat's past, for the next job that takes it."""
        self.steps[seat] = 0
        for state in (*self.first, *self.second):
            (state if self.seats == 1 else state[seat]).zero_()

    def state(self) -> dict[str, Tensor]:
        """Return the optimiser's own tensors by name.

        With the parameters they are all that the next step depends on.
        """
        moments = {"first": self.first, "second": self.second}
        return {
            "steps": self.steps,
            **{
                f"{name}.{i}": tensor for name, tensors in moments.items() for i, tensor in enumerate(tensors)
            },
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where state() was asked for."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def _wide(x: Tensor, like: Tensor) -> Tensor:
    """Add axes so that it goes with `like`; a single seat goes with anything: (A,) -> (A, 1, ..)."""
    return x.view(-1, *[1] * (like.dim() - 1))


def rate_factor(schedule: str, step: int, total: int, warmup: int, per_epoch: int) -> float:
    """Return what the peak learning rate is multiplied by at `step` (from 0) of `total`.

    Warm-up is linear.

    linear: to zero at the end; exponential: 0.95 an epoch (P-tuning v2's and SPT's NER); constant.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "linear":
        return (total - step) / max(1, total - warmup)
    if schedule == "exponential":
        return math.pow(0.95, step // max(1, per_epoch))
    return 1.0
