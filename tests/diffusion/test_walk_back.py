"""Plans and the walk back, against the schedulers of diffusers and step by step."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from ddpm_pairs.diffusion.samplers import (
    SAMPLERS,
    Plan,
    ancestral,
    ddim,
    dpm_solver,
    index_grid,
    make_plan,
    walk_back,
)
from ddpm_pairs.diffusion.schedule import Schedule

SHAPE = (3, 6, 5)


def toy(x, index):
    """A clean prediction in [-1, 1] that depends on picture and step nonlinearly, and on no neighbour."""
    step = index.view(-1, 1, 1, 1).to(x.dtype)
    return torch.tanh(0.7 * x + 0.3 * x.roll(1, dims=3) + 0.2 * torch.sin(step / 40))


def start(seed=0, pictures=1):
    return 1.5 * torch.randn(pictures, *SHAPE, generator=torch.Generator().manual_seed(seed))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def walk_alone(schedule, t, seed, **options):
    plan = make_plan(schedule, t, **options)
    return walk_back(toy, start(seed), [plan], [generator(seed)])


def with_table(scheduler, schedule):
    """Give a scheduler our float64 levels (compared with its own elsewhere), so that differences are in the steps."""
    scheduler.alphas_cumprod = schedule.alpha_bars
    return scheduler


class TestAgainstDiffusers:
    @pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
    @pytest.mark.parametrize("num_steps", [None, 9])
    def test_ancestral(self, name, num_steps):
        schedule, t = Schedule(name, 200), 60
        indices = index_grid(schedule, t, num_steps)
        reference = with_table(DDPMScheduler(num_train_timesteps=200, prediction_type="sample"), schedule)
        reference.set_timesteps(timesteps=indices)
        x, noises = start(), generator(0)
        for i in indices:
            x = reference.step(toy(x, torch.tensor([i])), i, x, generator=noises).prev_sample
        ours = walk_alone(schedule, t, 0, sampler="ancestral", num_steps=num_steps)
        torch.testing.assert_close(ours, x, atol=2e-5, rtol=0)

    @pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
    @pytest.mark.parametrize("stride", [1, 10])
    def test_ddim(self, eta, stride):
        schedule = Schedule("cosine", 100)
        reference = DDIMScheduler(num_train_timesteps=100, prediction_type="sample", set_alpha_to_one=True)
        reference = with_table(reference, schedule)
        reference.set_timesteps(100 // stride)
        indices = reference.timesteps.tolist()[3:]
        assert indices[-1] == 0
        x, noises = start(), generator(5)
        for i in indices:
            noise = torch.randn(1, *SHAPE, generator=noises) if eta and i > 0 else torch.zeros_like(x)
            x = reference.step(toy(x, torch.tensor([i])), i, x, eta=eta, variance_noise=noise).prev_sample
        ours = walk_back(toy, start(), [Plan(indices, ddim(schedule, indices, eta))], [generator(5)])
        torch.testing.assert_close(ours, x, atol=2e-5, rtol=0)

    @pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
    @pytest.mark.parametrize(("t", "num_steps"), [(500, 12), (180, 20), (8, 12)])
    @pytest.mark.parametrize("sampler", ["dpmsolver++", "sde-dpmsolver++"])
    def test_dpm_solver(self, name, t, num_steps, sampler):
        schedule = Schedule(name, 1000)
        indices = index_grid(schedule, t, num_steps)
        reference = DPMSolverMultistepScheduler(
            num_train_timesteps=1000,
            trained_betas=schedule.betas.tolist(),
            algorithm_type=sampler,
            solver_order=2,
            prediction_type="sample",
            final_sigmas_type="zero",
            lower_order_final=False,
        )
        reference = with_table(reference, schedule)
        reference.set_timesteps(timesteps=indices)
        x, noises = start(), generator(7)
        for i in indices:
            noise = torch.randn(1, *SHAPE, generator=noises) if i > 0 else torch.zeros_like(x)
            x = reference.step(toy(x, torch.tensor([i])), i, x, variance_noise=noise).prev_sample
        ours = walk_back(toy, start(), [make_plan(schedule, t, sampler, num_steps)], [generator(7)])
        torch.testing.assert_close(ours, x, atol=1e-3 if sampler.startswith("sde") else 2e-4, rtol=0)


class TestCoefficients:
    def test_ancestral_is_the_posterior_of_two_gaussians(self):
        # q(x_p | x, x_0) by multiplying N(x_p; sqrt(ab_p) x_0, 1 - ab_p) with N(x; sqrt(keep) x_p, 1 - keep).
        schedule = Schedule("linear", 1000)
        (a_x, a_m0, a_m1, a_z), last = ancestral(schedule, [400, 150])
        level, target = schedule.alpha_bars[400].item(), schedule.alpha_bars[150].item()
        keep = level / target
        precision = 1 / (1 - target) + keep / (1 - keep)
        assert a_x == pytest.approx(math.sqrt(keep) / (1 - keep) / precision, rel=1e-9)
        assert a_m0 == pytest.approx(math.sqrt(target) / (1 - target) / precision, rel=1e-9)
        assert a_z**2 == pytest.approx(1 / precision, rel=1e-9)
        assert a_m1 == 0
        assert last == (0.0, 1.0, 0.0, 0.0)

    def test_ancestral_variance_is_the_small_one_of_neighbouring_steps(self):
        schedule = Schedule("cosine", 100)
        rows = ancestral(schedule, list(range(99, -1, -1)))
        for i in range(99, 0, -1):
            beta, level, before = schedule.betas[i], schedule.alpha_bars[i], schedule.alpha_bars[i - 1]
            expected = (beta * (1 - before) / (1 - level)).item()
            assert rows[99 - i][3] ** 2 == pytest.approx(expected, rel=1e-6)

    def test_ddim_with_full_noise_is_ancestral(self):
        schedule, indices = Schedule("sigmoid", 1000), [700, 300, 20, 0]
        np.testing.assert_allclose(ddim(schedule, indices, 1.0), ancestral(schedule, indices), rtol=1e-9, atol=1e-12)

    def test_first_order_dpm_solver_is_ddim(self):
        schedule, indices = Schedule("linear", 1000), [320, 40]
        np.testing.assert_allclose(
            dpm_solver(schedule, indices, stochastic=False), ddim(schedule, indices), rtol=1e-9, atol=1e-12
        )

    def test_first_order_sde_solver_is_ancestral(self):
        # Both sample the exact reverse transition for a fixed clean picture.
        schedule, indices = Schedule("cosine", 1000), [320, 40]
        np.testing.assert_allclose(
            dpm_solver(schedule, indices, stochastic=True), ancestral(schedule, indices), rtol=1e-9, atol=1e-12
        )

    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("eta", [0.0, 1.0])
    def test_a_known_clean_picture_keeps_every_level(self, sampler, eta):
        # With m0 = m1 = x_0, x at level i stays at signal sqrt(ab) and variance 1 - ab all the way.
        schedule = Schedule("cosine", 1000)
        plan = make_plan(schedule, 700, sampler, 10, eta)
        levels = [schedule.alpha_bars[i].item() for i in plan.indices] + [1.0]
        for (a_x, a_m0, a_m1, a_z), level, target in zip(plan.coefficients, levels[:-1], levels[1:], strict=True):
            assert a_x * math.sqrt(level) + a_m0 + a_m1 == pytest.approx(math.sqrt(target), rel=1e-9)
            if target < 1:
                assert a_x**2 * (1 - level) + a_z**2 == pytest.approx(1 - target, rel=1e-6)


class TestGrid:
    @pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
    @pytest.mark.parametrize(("t", "num_steps"), [(1000, 12), (500, 12), (250, 8), (40, 20), (13, 12), (300, 2)])
    def test_is_spread_over_log_snr(self, name, t, num_steps):
        schedule = Schedule(name, 1000)
        table = schedule.log_snr.numpy()[:t]
        grid = index_grid(schedule, t, num_steps)
        expected = set()
        for k in range(num_steps):
            wanted = table[-1] + (table[0] - table[-1]) * (k / (num_steps - 1)) ** 1.2
            expected.add(min(range(t), key=lambda i: abs(table[i] - wanted)))
        assert grid == sorted(expected, reverse=True)
        assert (grid[0], grid[-1]) == (t - 1, 0)
        assert 2 <= len(grid) <= num_steps

    @pytest.mark.parametrize(("t", "num_steps"), [(0, 12), (1, 12), (1, 1), (12, 12), (7, None), (100, None)])
    def test_is_full_where_steps_suffice(self, t, num_steps):
        assert index_grid(Schedule("cosine", 100), t, num_steps) == list(reversed(range(t)))

    def test_of_one_step_starts_at_t(self):
        assert index_grid(Schedule("cosine", 100), 60, 1) == [59]

    @pytest.mark.parametrize("t", [-1, 101])
    def test_t_outside_the_schedule(self, t):
        with pytest.raises(ValueError, match=f"t: got {t}; expected 0 to 100"):
            make_plan(Schedule("cosine", 100), t)

    def test_unknown_sampler(self):
        with pytest.raises(ValueError, match="'unipc'.*sde-dpmsolver"):
            make_plan(Schedule("cosine", 100), 5, "unipc")


class TestLockstep:
    TS = (0, 1, 7, 40, 100, 100)

    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("num_steps", [12, None])
    def test_each_picture_walks_as_if_alone(self, sampler, num_steps):
        schedule = Schedule("cosine", 100)
        plans = [make_plan(schedule, t, sampler, num_steps, eta=0.5) for t in self.TS]
        x = torch.cat([start(seed) for seed in range(len(self.TS))])
        together = walk_back(toy, x, plans, [generator(seed) for seed in range(len(self.TS))])
        for seed, t in enumerate(self.TS):
            alone = walk_alone(schedule, t, seed, sampler=sampler, num_steps=num_steps, eta=0.5)
            assert torch.equal(together[seed], alone[0]), t
        assert not torch.equal(together[4], together[5])

    def test_no_steps_leave_a_picture_untouched(self):
        schedule, calls = Schedule("cosine", 100), []
        ours = walk_back(lambda x, i: calls.append(i), start(), [make_plan(schedule, 0)], [generator(0)])
        assert torch.equal(ours, start())
        assert calls == []

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_one_step_is_one_clean_prediction(self, sampler):
        schedule = Schedule("cosine", 100)
        assert torch.equal(walk_alone(schedule, 1, 3, sampler=sampler), toy(start(3), torch.tensor([0])))

    @pytest.mark.parametrize(
        ("ts", "num_steps", "evaluations"),
        [((0, 3), 12, 3), ((500, 20, 3), 12, 12), ((5, 30), None, 30), ((0,), 12, 0)],
    )
    def test_evaluations_are_as_planned(self, ts, num_steps, evaluations):
        schedule, visited = Schedule("cosine", 1000), []

        def counted(x, index):
            visited.append(index.tolist())
            return toy(x, index)

        plans = [make_plan(schedule, t, "sde-dpmsolver++", num_steps) for t in ts]
        walk_back(counted, start(0, len(ts)), plans, [generator(n) for n in range(len(ts))])
        assert len(visited) == max(len(plan) for plan in plans) == evaluations
        for n, plan in enumerate(plans):  # right-aligned: all end together
            assert [column[n] for column in visited][len(visited) - len(plan) :] == plan.indices

    @pytest.mark.parametrize(
        ("sampler", "noisy"), [("sde-dpmsolver++", 11), ("ancestral", 11), ("ddim", 0), ("dpmsolver++", 0)]
    )
    def test_noise_is_drawn_from_the_pictures_own_generator_only(self, sampler, noisy):
        schedule, state = Schedule("cosine", 1000), torch.get_rng_state()
        own = generator(1)
        walk_back(toy, start(), [make_plan(schedule, 500, sampler, 12)], [own])
        assert torch.equal(torch.get_rng_state(), state)
        expected = generator(1)
        for _ in range(noisy):
            torch.randn(*SHAPE, generator=expected)
        assert torch.equal(own.get_state(), expected.get_state())
