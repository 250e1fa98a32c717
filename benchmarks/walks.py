"""The methods from initial LQ to LQ that `benchmarks/synthesis.py` compares: ours, and three of other projects.

All methods use the same network, the same t per image, and the same initial noise, and return 8-bit images on the host.
Each draws its own noise for the steps. The peers run the network in fp32 (on CUDA with TF32 in convolutions, torch's
default), as their authors do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import DDPMScheduler, UniPCMultistepScheduler
from torch import Tensor, nn
from training_networks import NETWORKS

from ddpm_pairs.degradations.walk import synthesize
from ddpm_pairs.diffusion import Denoiser, Schedule, UNet, load_denoiser
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.diffusion.samplers import MODES, Sampling
from ddpm_pairs.diffusion.schedule import noise_like
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.shipped import weights_file
from ddpm_pairs.tensors import seed_of

ANCESTRAL, UNIPC, P_SAMPLE = "ancestral", "unipc", "p_sample"
TITLES = {
    **{mode: f"ours, {mode}" for mode in MODES},
    ANCESTRAL: "ancestral, per image (diffusers DDPMScheduler)",
    UNIPC: "UniPC, 50-step grid, per image (diffusers, as released by the authors)",
    P_SAMPLE: "ancestral, batched (denoising-diffusion-pytorch p_sample)",
}
BATCHED = (*MODES, P_SAMPLE)
UNIPC_GRID = 50


@dataclass(frozen=True)
class Job:
    """Images to noise and denoise.

    Attributes:
        starts: Initial LQ (N, 3, h, w), float32 in [0, 1], on the CPU.
        ts: Step t of each image, 1 or more.
        seed: Seed of all noise.
    """

    starts: Tensor
    ts: list[int]
    seed: int = 0

    def noised_from(self, rows: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return images (n, 3, h, w) in [-1, 1] and their initial noise, on the device."""
        generators = [torch.Generator(device).manual_seed(seed_of(self.seed, str(row), "noise")) for row in rows]
        return self.starts[rows].to(device) * 2 - 1, noise_like(generators, tuple(self.starts.shape[1:]))


class Walk:
    """One method of denoising.

    Args:
        denoiser: The network.
        counted: The module whose inputs are counted as evaluations.
        precision: Precision of the network, for the table.
        run: Runs a job and returns LQ (N, 3, h, w), uint8, on the CPU.
        needs: Returns the evaluations that an image with step t needs.

    Attributes:
        evaluated: Images that the network has evaluated.
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
    """Load a DDPM from a checkpoint, an export, or a shipped name; a key of ``NETWORKS`` gives an untrained one.

    Args:
        name: The value of ``--ckpt_path``. An untrained network is as fast as a trained one.

    Raises:
        UserError: If there is neither such a file nor such a name.
    """
    if name in NETWORKS:
        return Denoiser(UNet(**NETWORKS[name]), Schedule("cosine", 1000)).eval()
    return load_denoiser(weights_file(name))


def build(name: str, denoiser: Denoiser, device: torch.device, threads: int, batch: int, compile: bool = False) -> Walk:
    """Build one of the methods.

    Args:
        name: A key of ``TITLES``.
        denoiser: A loaded network, used by this method only.
        device: Device on which it runs.
        threads: CPU threads.
        batch: Batch size, for methods that batch.
        compile: Compile the network, for our modes.
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
    """Run batches in lockstep, longest walks first; an incomplete batch is filled with repeats."""
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
    """Loop over images, batch 1; ``walk`` takes an image in [-1, 1], its initial noise, and its t."""
    done = []
    for row, t in enumerate(job.ts):
        x_0, noise = job.noised_from([row], device)
        done.append(eight_bit((walk(x_0, noise, t) + 1) / 2).cpu())
    return torch.cat(done)


def ancestral(net: nn.Module, scheduler: DDPMScheduler, x_0: Tensor, noise: Tensor, t: int) -> Tensor:
    """Run DDPM's ancestral sampling with diffusers: every step from t down, with clipped predictions."""
    x = scheduler.add_noise(x_0, noise, torch.tensor([t - 1], device=x_0.device))
    for index in range(t - 1, -1, -1):
        output = net(x, torch.tensor([index], device=x.device))
        x = scheduler.step(output, index, x).prev_sample
    return x


def unipc(net: nn.Module, scheduler: UniPCMultistepScheduler, x_0: Tensor, noise: Tensor, t: int) -> Tensor:
    """Run UniPC on a grid of 50 steps over the whole schedule, entered at t / T of it ("strength")."""
    scheduler.set_timesteps(UNIPC_GRID, device=x_0.device)
    visited = scheduler.timesteps[UNIPC_GRID - UNIPC_GRID * t // len(scheduler.betas) :]
    if not len(visited):
        return x_0
    x = scheduler.add_noise(x_0, noise, visited[:1])
    for index in visited:
        x = scheduler.step(net(x, index[None]), index, x).prev_sample
    return x


def unipc_steps(denoiser: Denoiser, t: int) -> int:
    """Return the evaluations of ``unipc`` from t: whole steps of the grid, rounded down."""
    return UNIPC_GRID * t // denoiser.schedule.num_train_timesteps


@torch.inference_mode()
def p_sample(denoiser: Denoiser, device: torch.device, batch: int, job: Job) -> Tensor:
    """Run the ancestral step of denoising-diffusion-pytorch on batches in the job's order.

    It takes one t for the whole batch, so the loop counts down from the batch's largest t, and each image joins at its
    own t. No evaluation is wasted.
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
    """Our network with the interface that denoising-diffusion-pytorch expects."""

    channels = out_dim = 3
    self_condition = False

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, time: Tensor, x_self_cond: None = None) -> Tensor:
        """Return the network's output for x (N, 3, H, W) at table indices (N,)."""
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
