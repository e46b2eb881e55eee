"""Install: commands to install torch, and a check that it works. Tutorial, 安装."""

import platform
from dataclasses import dataclass
from importlib.metadata import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from charts.blocks import Note, Table
from charts.chart import Chart
from charts.text import Text, Words, joined
from lab import prose
from lab.lesson import Computation, View
from lab.settings import Config, choice
from lab.transcript import Prompt

PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "windows_with_an_nvidia_card": {"system": "windows", "manager": "pip", "device": "cuda"},
    "cuda_on_a_mac": {"system": "macos", "manager": "pip", "device": "cuda"},
    "with_conda": {"manager": "conda"},
}


@dataclass(frozen=True, kw_only=True)
class InstallConfig(Config):
    """System, package manager and device for the installation."""

    system: str = choice(
        "linux",
        Text("System", "操作系统"),
        {"linux": "Linux", "macos": "macOS", "windows": "Windows"},
        info=Text("System to install torch on", "要安装 torch 的电脑"),
    )
    manager: str = choice(
        "uv",
        Text("Package manager", "包管理器"),
        {"pip": "pip", "uv": "uv", "conda": "conda-forge"},
        info=Text("pip comes with Python; uv is a faster one", "pip 是 Python 自带的；uv 更快"),
    )
    device: str = choice(
        "cpu",
        Text("Device", "运行设备"),
        {
            "cpu": Text("CPU, the processor", "CPU（处理器）"),
            "cuda": Text("CUDA, an NVIDIA card", "CUDA（NVIDIA 显卡）"),
        },
        info=Text("The processor is enough for this tutorial", "本教程用处理器就够了"),
    )


CHECK = """
    import numpy as np
    import torch
    torch.rand(2, 3)
    a = np.arange(6.0).reshape(2, 3)
    torch.from_numpy(a) @ torch.from_numpy(a).T
    np.allclose(torch.from_numpy(a) @ torch.from_numpy(a).T, a @ a.T)
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    x.grad
    torch.cuda.is_available()  # an NVIDIA card
    torch.backends.mps.is_available()  # the graphics of a Mac
    torch.get_num_threads()
"""


def random_numbers() -> Tensor:
    """Uniform random numbers between 0 and 1, (2, 3): the first check that pytorch.org suggests."""
    return torch.rand(2, 3)


def product(a: npt.NDArray[np.float64]) -> Tensor:
    """Matrix product of `a` (2, 3) and its transpose, (2, 2), for comparison with numpy."""
    x = torch.from_numpy(a)
    return x @ x.T


def gradient() -> Tensor | None:
    """Gradient of x₁² + x₂² at (1, 2) by autograd, which is (2, 4)."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    return x.grad


def best_device() -> str:
    """Type of the available accelerator, such as "cuda" or "mps", or else "cpu"."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator.type if accelerator else "cpu"


def commands(system: str, manager: str, device: str) -> tuple[tuple[Words, str], ...]:
    """Installation commands in order, as pairs of purpose and command."""
    windows, cuda = system == "windows", device == "cuda" and system != "macos"
    environment, activate = Text("Create an environment", "建一个单独的环境"), Text("Activate it", "进入环境")
    numpy_itself = Text("numpy, which torch does not install", "numpy，torch 不自带")
    if manager == "conda":
        package = "pytorch" if system == "macos" else "pytorch-gpu" if cuda else "pytorch-cpu"
        return (
            (environment, "conda create -n torch -c conda-forge python"),
            (activate, "conda activate torch"),
            ("torch", f"conda install -c conda-forge {package}"),
            (numpy_itself, "conda install -c conda-forge numpy"),
        )
    if manager == "uv":
        backend = "" if system == "macos" else " --torch-backend=auto" if cuda else " --torch-backend=cpu"
        return (
            (Text("uv itself", "uv 本身"), "pip install uv"),
            (environment, "uv venv"),
            ("torch", f"uv pip install torch{backend}"),
            (numpy_itself, "uv pip install numpy"),
        )
    # The default build has CUDA on Linux and none on Windows; macOS has only one build.
    index = " --index-url URL" if (system, device) in (("linux", "cpu"), ("windows", "cuda")) else ""
    return (
        (environment, "py -m venv .venv" if windows else "python3 -m venv .venv"),
        (activate, r".venv\Scripts\activate" if windows else "source .venv/bin/activate"),
        ("torch", f"pip install torch{index}"),
        (numpy_itself, "pip install numpy"),
    )


def remark(system: str, manager: str, device: str) -> Note:
    """Note on the chosen combination."""
    # Notes contain no address of a package index: addresses change, and pytorch.org shows the current one.
    cuda = device == "cuda"
    if system == "macos":
        return Note(PROSE.notes["no_cuda_on_macos"], "warning") if cuda else Note(PROSE.notes["macos"])
    if manager == "conda":
        return Note(PROSE.notes["conda_gpu"] if cuda else PROSE.notes["conda_cpu"])
    if manager == "uv":
        return Note(PROSE.notes["uv_auto"] if cuda else PROSE.notes["uv_cpu"])
    if cuda == (system == "windows"):
        complete = f"uv pip install torch --torch-backend={'auto' if cuda else 'cpu'}"
        return Note(PROSE.notes["index"].format(complete=complete))
    return Note(PROSE.notes["default_with_cuda"] if cuda else PROSE.notes["default_without_cuda"])


def verdict(failed: list[Words]) -> Note:
    """Note on whether all checks have passed; `failed` has the names of failed checks."""
    return (
        Note(PROSE.notes["fails"].format(failed=joined(failed, Text(", ", "、"))), "warning")
        if failed
        else Note(PROSE.notes["works"], "good")
    )


def compute(config: InstallConfig) -> View:
    """Show the commands for the chosen combination, and check the torch of this server."""
    chosen = (config.system, config.manager, config.device)
    session = Prompt().session(CHECK, Text("Does it work?", "能用吗？"))
    x, a, grad = random_numbers(), np.arange(6.0).reshape(2, 3), gradient()
    agrees = np.allclose(product(a), a @ a.T)
    passed: dict[Words, bool] = {
        Text("random numbers", "随机数"): bool(((x >= 0) & (x < 1)).all()),
        Text("matrix product", "矩阵乘法"): agrees,
        Text("gradient", "梯度"): grad is not None and grad.tolist() == [2.0, 4.0],
    }
    none = Text("none", "无")
    versions: tuple[tuple[Words, Words], ...] = (
        ("Python", platform.python_version()),
        (
            Text("Python versions that this torch supports", "这一版 torch 支持的 Python"),
            metadata("torch")["Requires-Python"],
        ),
        ("torch", str(torch.__version__)),
        (Text("CUDA in this build", "这一版自带的 CUDA"), torch.version.cuda or none),
        (Text("device that nets would use", "网络会用的设备"), best_device()),
        ("numpy", np.__version__),
    )
    return View(
        Chart(()),
        {},
        (
            Table(
                (Text("Purpose", "作用"), Text("Command", "命令")),
                tuple((purpose, f"`{command}`") for purpose, command in commands(*chosen)),
                Text("On your machine", "在你的电脑上"),
            ),
            remark(*chosen),
            Table((Text("Item", "项目"), Text("Here", "这里")), versions, Text("On this server", "本服务器上")),
            session,
            verdict([name for name, good in passed.items() if not good]),
            *([Note(PROSE.notes["cuda_at_home"])] if config.device == "cuda" and config.system != "macos" else []),
        ),
    )


LESSON = Computation(
    key="install",
    group="basics",
    prose=PROSE,
    config=InstallConfig,
    ideas=IDEAS,
    sources=(random_numbers, product, gradient, best_device),
    compute=compute,
)
