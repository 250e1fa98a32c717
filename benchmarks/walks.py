"""The ways from initial LQ to LQ that `benchmarks/synthesis.py` compares: ours, and three that others use.

All take the same network, the same t of each picture and the same noise to start from, and give 8-bit pictures on the
host. The noise of the steps is each one's own. The peers run the network in fp32 (on CUDA with TF32 in convolutions,
torch's default) as their authors do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import DDPMScheduler, UniPCMultistepScheduler
from torch import Tensor, nn
from training_networks import NETWORKS

from ddpm_pairs.degradations.walk import MODES, Sampling, synthesize
from ddpm_pairs.diffusion import Denoiser, Schedule, UNet, load_denoiser
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.diffusion.schedule import noise_like
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.seeding import seed_of
from ddpm_pairs.shipped import weights_file

ANCESTRAL, UNIPC, P_SAMPLE = "ancestral", "unipc", "p_sample"
TITLES = {
    **{mode: f"ours, {mode}" for mode in MODES},
    ANCESTRAL: "ancestral, a picture at a time (diffusers DDPMScheduler)",
    UNIPC: "UniPC, 50-step grid, a picture at a time (diffusers, as the authors released)",
    P_SAMPLE: "ancestral, batched (denoising-diffusion-pytorch p_sample)",
}
BATCHED = (*MODES, P_SAMPLE)
UNIPC_GRID = 50


@dataclass(frozen=True)
class Job:
    """Pictures to walk back.

    Attributes:
        starts: Initial LQ (N, 3, h, w), float32 in [0, 1], on the CPU.
        ts: Steps of noise of each, 1 or more.
        seed: Of all noise.
    """

    starts: Tensor
    ts: list[int]
    seed: int = 0

    def noised_from(self, rows: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Pictures (n, 3, h, w) in [-1, 1], and the noise of their start, on the device."""
        generators = [torch.Generator(device).manual_seed(seed_of(self.seed, str(row), "noise")) for row in rows]
        return self.starts[rows].to(device) * 2 - 1, noise_like(generators, tuple(self.starts.shape[1:]))


class Walk:
    """One way to walk back.

    Args:
        denoiser: The network it calls.
        counted: The module at which the pictures that the network sees are counted.
        precision: How the network runs, in words.
        run: From a job to LQ (N, 3, h, w), uint8, on the CPU.
        needs: Evaluations that a picture needs, by its t.

    Attributes:
        evaluated: Pictures that the network has seen.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        counted: nn.Module,
        precision: str,
        run: Callable[[Job], Tensor],
        needs: Callable[[int], int],
    ) -> None:
        self.denoiser, self.precision, self.run, self.needs = denoiser, precision, run, needs
        self.evaluated = 0
        counted.register_forward_pre_hook(lambda module, inputs: self._count(len(inputs[0])))

    def _count(self, pictures: int) -> None:
        self.evaluated += pictures


def load(name: str) -> Denoiser:
    """A DDPM by its checkpoint, export or shipped name; a key of ``NETWORKS`` gives an untrained one of that size.

    Args:
        name: The word after ``--ckpt_path``. An untrained network is as fast as a trained one.

    Raises:
        UserError: If there is no such file and no such name.
    """
    if name in NETWORKS:
        return Denoiser(UNet(**NETWORKS[name]), Schedule("cosine", 1000)).eval()
    return load_denoiser(weights_file(name))


def build(name: str, denoiser: Denoiser, device: torch.device, threads: int, batch: int, compile: bool = False) -> Walk:
    """One of the ways.

    Args:
        name: A key of ``TITLES``.
        denoiser: The network as it was loaded, for this way alone.
        device: Where it runs.
        threads: CPU threads.
        batch: Pictures that go through the network together, for those that batch.
        compile: Compile the network, for ours.
    """
    torch.set_num_threads(threads)
    if name in MODES:
        runtime, sampling = Runtime(threads=threads, compile=compile), Sampling.of_mode(name)
        denoiser = runtime.place(denoiser, device)  # in the precision of `lightning predict`
        run = partial(ours, denoiser, sampling, device, batch)
        return Walk(denoiser, denoiser, runtime.precision, run, lambda t: len(sampling.plan(denoiser.schedule, t)))
    denoiser.to(device)
    described = {
        "num_train_timesteps": denoiser.schedule.num_train_timesteps,
        "trained_betas": denoiser.schedule.betas.tolist(),
        "prediction_type": denoiser.prediction_type,
    }
    run, needs = partial(p_sample, denoiser, device, batch), int
    if name == ANCESTRAL:
        step = partial(ancestral, denoiser.net, DDPMScheduler(**described, variance_type="fixed_small"))
        run = partial(picture_by_picture, step, device)
    elif name == UNIPC:
        step = partial(unipc, denoiser.net, UniPCMultistepScheduler(**described))
        run, needs = partial(picture_by_picture, step, device), partial(unipc_steps, denoiser)
    return Walk(denoiser, denoiser.net, "fp32", run, needs)


@torch.inference_mode()
def ours(denoiser: Denoiser, sampling: Sampling, device: torch.device, batch: int, job: Job) -> Tensor:
    """Batches in lockstep, longest walks first; a short batch is filled up with repeats."""
    order = sorted(range(len(job.ts)), key=lambda row: -len(sampling.plan(denoiser.schedule, job.ts[row])))
    lq = torch.empty(job.starts.shape, dtype=torch.uint8)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        filled = rows + rows[-1:] * (batch - len(rows))
        seeds = {row: [seed_of(job.seed, str(row), name) for name in ("noise", "steps")] for row in rows}
        drawn = [{"t": job.ts[row], "noise_seed": seeds[row][0], "steps_seed": seeds[row][1]} for row in filled]
        walked = synthesize(denoiser, job.starts[filled].to(device), drawn, sampling)
        lq[rows] = eight_bit(walked).cpu()[: len(rows)]
    return lq


@torch.inference_mode()
def picture_by_picture(walk: Callable[[Tensor, Tensor, int], Tensor], device: torch.device, job: Job) -> Tensor:
    """A loop over pictures, batch 1; ``walk`` takes a picture in [-1, 1], the noise of its start and its t."""
    done = []
    for row, t in enumerate(job.ts):
        x_0, noise = job.noised_from([row], device)
        done.append(eight_bit((walk(x_0, noise, t) + 1) / 2).cpu())
    return torch.cat(done)


def ancestral(net: nn.Module, scheduler: DDPMScheduler, x_0: Tensor, noise: Tensor, t: int) -> Tensor:
    """DDPM's own walk by diffusers: every step from t down, the clean prediction clipped."""
    x = scheduler.add_noise(x_0, noise, torch.tensor([t - 1], device=x_0.device))
    for index in range(t - 1, -1, -1):
        output = net(x, torch.tensor([index], device=x.device))
        x = scheduler.step(output, index, x).prev_sample
    return x


def unipc(net: nn.Module, scheduler: UniPCMultistepScheduler, x_0: Tensor, noise: Tensor, t: int) -> Tensor:
    """UniPC on a grid of 50 steps over the whole schedule, entered at a share t / T of it ("strength")."""
    scheduler.set_timesteps(UNIPC_GRID, device=x_0.device)
    visited = scheduler.timesteps[UNIPC_GRID - UNIPC_GRID * t // len(scheduler.betas) :]
    if not len(visited):
        return x_0
    x = scheduler.add_noise(x_0, noise, visited[:1])
    for index in visited:
        x = scheduler.step(net(x, index[None]), index, x).prev_sample
    return x


def unipc_steps(denoiser: Denoiser, t: int) -> int:
    """Evaluations of ``unipc`` from t; whole steps of the grid, rounded down."""
    return UNIPC_GRID * t // denoiser.schedule.num_train_timesteps


@torch.inference_mode()
def p_sample(denoiser: Denoiser, device: torch.device, batch: int, job: Job) -> Tensor:
    """The ancestral step of denoising-diffusion-pytorch on batches in the job's order.

    It takes one t for the whole batch, so the walk counts down from the batch's largest t, and each picture joins at
    its own: the way to use it that wastes no evaluation.
    """
    diffusion = _gaussian_diffusion(denoiser, job.starts.shape[-2:]).to(device)
    lq = torch.empty(job.starts.shape, dtype=torch.uint8)
    for first in range(0, len(job.ts), batch):
        rows = sorted(range(first, min(first + batch, len(job.ts))), key=lambda row: -job.ts[row])
        x_0, noise = job.noised_from(rows, device)
        x = x_0[:0]
        for index in range(job.ts[rows[0]] - 1, -1, -1):
            joined = sum(job.ts[row] > index for row in rows)
            if joined > len(x):
                level = torch.full((joined - len(x),), index, device=device)
                joining = diffusion.q_sample(x_0[len(x) : joined], level, noise[len(x) : joined])
                x = torch.cat([x, joining])
            x, _ = diffusion.p_sample(x, index)
        lq[rows] = eight_bit((torch.cat([x, x_0[len(x) :]]) + 1) / 2).cpu()
    return lq


class Driven(nn.Module):
    """Our network in the form that denoising-diffusion-pytorch calls."""

    channels = out_dim = 3
    self_condition = False

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, time: Tensor, x_self_cond: None = None) -> Tensor:
        """What the network gives for x (N, 3, H, W) at table indices (N,)."""
        return self.net(x, time)


def _gaussian_diffusion(denoiser: Denoiser, size: tuple[int, int]) -> nn.Module:
    from denoising_diffusion_pytorch import GaussianDiffusion

    return GaussianDiffusion(
        Driven(denoiser.net),
        image_size=tuple(size),
        timesteps=denoiser.schedule.num_train_timesteps,
        objective={"epsilon": "pred_noise", "v_prediction": "pred_v"}[denoiser.prediction_type],
        beta_schedule=denoiser.schedule.name,
    )
