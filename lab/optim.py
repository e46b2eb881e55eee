"""Optimizers, learning rate schedules, weight penalties and gradient clipping, constructed from settings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR

from charts.text import Text
from lab.experiment import Learner, Loss
from lab.settings import Config, choice, learning_rate, number

# Labels of the optimizers.
OPTIMIZERS = {
    "sgd": "SGD",
    "momentum": "Momentum",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "nesterov": "Nesterov",
    "adagrad": "Adagrad",
    "adamw": "AdamW",
}

NO_SCHEDULE = "none"
SCHEDULES = {
    NO_SCHEDULE: Text("constant", "不变"),
    "step": Text("halved four times", "减半四次"),
    "exponential": Text("exponential decay", "指数衰减"),
    "cosine": Text("cosine", "余弦"),
}
FINAL_FRACTION = 0.01  # fraction of the learning rate that remains at the end of exponential decay


def make_optimizer(
    name: str,
    weights: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    momentum: float = 0.9,
    alpha: float = 0.99,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """Optimizer by name. Uses the fused implementation, which updates all weights in one call; RMSprop has none."""
    lr = learning_rate
    match name:
        case "sgd":
            return torch.optim.SGD(weights, lr=lr, fused=True)
        case "momentum":
            return torch.optim.SGD(weights, lr=lr, momentum=momentum, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(weights, lr=lr, alpha=alpha)
        case "adam":
            return torch.optim.Adam(weights, lr=lr, betas=betas, fused=True)
        case "nesterov":
            return torch.optim.SGD(weights, lr=lr, momentum=momentum, nesterov=True, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(weights, lr=lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(weights, lr=lr, betas=betas, fused=True)
        case _:
            raise ValueError(f"unknown optimizer {name!r}")


def optimizer_options(
    name: str, *, momentum: float = 0.9, alpha: float = 0.99, betas: tuple[float, float] = (0.9, 0.999)
) -> dict[str, Any]:
    """The options, of those that `make_optimizer` takes, that this optimizer has. They can change during a run."""
    match name:
        case "momentum" | "nesterov":
            return {"momentum": momentum}
        case "rmsprop":
            return {"alpha": alpha}
        case "adam" | "adamw":
            return {"betas": betas}
        case _:
            return {}


def make_schedule(name: str, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler | None:
    """Learning rate scheduler for a run of `steps` steps, or None for a constant rate."""
    match name:
        case "none":
            return None
        case "step":
            return StepLR(optimizer, step_size=max(1, steps // 5), gamma=0.5)
        case "exponential":
            return ExponentialLR(optimizer, gamma=FINAL_FRACTION ** (1 / steps))
        case "cosine":
            return CosineAnnealingLR(optimizer, T_max=steps)
        case _:
            raise ValueError(f"unknown schedule {name!r}")


def make_penalty(l1: float, l2: float) -> Callable[[nn.Module], Tensor] | None:
    """Penalty l1 · Σ|w| + l2 · Σw² over all weights w, excluding biases, or None if both are 0."""
    if not l1 and not l2:
        return None

    def penalty(net: nn.Module) -> Tensor:
        weights = [each for each in net.parameters() if each.dim() > 1]
        return torch.stack([l1 * each.abs().sum() + l2 * each.square().sum() for each in weights]).sum()

    return penalty


@dataclass(frozen=True, kw_only=True)
class Optimization(Config):
    """Settings of the optimizer, the learning rate schedule, the weight penalties and gradient clipping."""

    optimizer: str = choice(
        "sgd",
        Text("Optimizer", "优化器"),
        OPTIMIZERS,
        info=Text("How gradients are turned into weight updates", "怎样由梯度得到一步"),
    )
    learning_rate: float = learning_rate(0.1)
    momentum: float = number(
        0.9,
        Text("Momentum", "动量"),
        0.0,
        0.99,
        step=0.01,
        info=Text("Fraction of the previous update to keep", "上一步保留多少"),
        live=True,
        when={"optimizer": ("momentum", "nesterov")},
    )
    schedule: str = choice(
        NO_SCHEDULE,
        Text("Schedule", "学习率调度"),
        SCHEDULES,
        info=Text("How the learning rate changes during the run", "学习率在训练中怎样变化"),
    )
    l1: float = number(
        0.0,
        Text("L1 penalty", "L1 惩罚"),
        0.0,
        1.0,
        info=Text("Coefficient of the sum of absolute weights", "对权重的绝对值"),
        live=True,
    )
    l2: float = number(
        0.0,
        Text("L2 penalty", "L2 惩罚"),
        0.0,
        1.0,
        info=Text("Coefficient of the sum of squared weights", "对权重的平方"),
        live=True,
    )
    clip: float = number(
        0.0,
        Text("Clip the gradient", "梯度裁剪"),
        0.0,
        100.0,
        info=Text("Maximum gradient norm; 0 disables clipping", "梯度范数的上限；0 表示不裁剪"),
        live=True,
    )

    def learner(self, name: str, net: nn.Module, loss_func: Loss, steps: int) -> Learner:
        """Learner that trains `net` with these settings in a run of `steps` steps."""
        optimizer = make_optimizer(
            self.optimizer, net.parameters(), learning_rate=self.learning_rate, momentum=self.momentum
        )
        learner = Learner(name, net, optimizer, loss_func, schedule=make_schedule(self.schedule, optimizer, steps))
        self.retune(learner)
        return learner

    def retune(self, learner: Learner) -> None:
        """Apply the settings that can change during a run to a learner that `learner` has made."""
        learner.set_learning_rate(self.learning_rate)
        learner.set_options(**optimizer_options(self.optimizer, momentum=self.momentum))
        learner.penalty = make_penalty(self.l1, self.l2)
        learner.clip = self.clip or None
