"""The trainer of ReDegNet: its losses and steps by hand, its checkpoints, two ranks, and its validation."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from tiny_gan import trainer
from tiny_redegnet import SIDE, Edges, TinyFaces, faces_of, tiny_codes

from ddpm_pairs.callbacks import EMA, CodeSamples, LastCheckpoint, TrainingMonitor
from ddpm_pairs.degradations import by_name
from ddpm_pairs.degradations.learned.redegnet.losses import disentangling, same_degradation
from ddpm_pairs.degradations.learned.redegnet.module import Codes
from ddpm_pairs.degradations.learned.redegnet.reader import load_reader
from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import seed_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def fitted(module, steps, callbacks=(), data=None, **options):
    fit = trainer(steps, callbacks=list(callbacks), **options)
    fit.fit(module, data or TinyFaces())
    return fit


class TestLossesOfCodes:
    def test_same_degradation(self):
        natural, face = torch.tensor([[1.0, 2.0], [0.0, 4.0]]), torch.tensor([[0.0, 2.0], [2.0, 3.0]])
        assert same_degradation(natural, face).item() == (1 + 0 + 2 + 1) / 4

    def test_disentangling(self):
        real, face = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.5, 1.9]])
        assert disentangling(real, face).item() == pytest.approx(4 / (10 * 0.3 + 1e-7))
        assert disentangling(real, real).item() == pytest.approx(4e7)


def test_crossed_rows_exchange_their_codes():
    module, batch = tiny_codes().eval(), faces_of(0, 3)
    codes = module.read(batch)
    pairs = [("face_hq", "face_lq"), ("face_hq", "face_syn_lq"), ("natural_hq", "natural_syn_lq")]
    for found, (hq, lq) in zip(codes, pairs, strict=True):
        torch.testing.assert_close(found, module.net.deg(batch[hq], batch[lq]), rtol=1e-4, atol=1e-5)
    made = module.render(batch, codes, torch.tensor([True, False, True]))
    expected = [module.net.syn(batch["face_hq"], codes.real)]
    exchange = torch.tensor([[True], [False], [True]])
    expected.append(module.net.syn(batch["face_hq"], torch.where(exchange, codes.natural, codes.face)))
    expected.append(module.net.syn(batch["natural_hq"], torch.where(exchange, codes.face, codes.natural)))
    torch.testing.assert_close(made, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_the_released_weights():
    """For images that are off by 0.1 on [0, 1] and codes that are off by 0.5 and 0.25."""
    module, batch = tiny_codes(perceptual=Edges()).eval(), faces_of(0, 2)
    target = torch.cat([batch[name] for name in ("face_lq", "face_syn_lq", "natural_syn_lq")])
    codes = Codes(torch.zeros(2, 6), torch.full((2, 6), 0.5), torch.full((2, 6), 0.75))
    module.perceptual.with_style = lambda made, target: (torch.tensor(3.0), torch.tensor(0.9))
    losses = module.losses(batch, codes, target + 0.1)
    expected = {
        "pixel": 10 * 0.2, "perceptual": 0.2 * 3, "style": 160 / 3 * 0.9, "same": 100 * 0.25, "disentangling": 4 / 5,
    }  # fmt: skip
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-3), name
    logits = module.discriminator(target[:2] + 0.1, batch["face_hq"], codes.real)
    assert losses["adversarial"].item() == pytest.approx(-0.01 * logits.mean().item())
    assert module.crossing == 0.8


def test_steps_by_hand():
    """In float64, since Adam's first steps divide gradients by themselves."""
    module = tiny_codes(perceptual=Edges(), gradient_clip=0.5, halve_at=(2,), crossing=0.5)
    net, judge = copy.deepcopy(module.net).double(), copy.deepcopy(module.discriminator).double()
    fitted(module, 3, precision="64-true", limit_val_batches=0)
    one, other = (torch.optim.Adam(part.parameters(), lr=1e-4, betas=(0.9, 0.999)) for part in (net, judge))
    for step, share in enumerate([1.0, 1.0, 0.5]):
        for group in (*one.param_groups, *other.param_groups):
            group["lr"] = 1e-4 * share
        batch = {name: value.double() for name, value in faces_of(step, 2).items() if name != "key"}
        hf, hn = batch["face_hq"], batch["natural_hq"]
        real, face, natural = net.deg(
            torch.cat([hf, hf, hn]), torch.cat([batch["face_lq"], batch["face_syn_lq"], batch["natural_syn_lq"]])
        ).chunk(3)
        rows = [torch.Generator().manual_seed(seed_of("crossing", 0, step, row)) for row in range(2)]
        crossed = torch.stack([torch.rand((), generator=row, dtype=torch.float64) for row in rows])[:, None] < 0.5
        maps = [torch.cat([m[:2], m]) for m in net.syn.encoder(torch.cat([hf, hn]))]
        exchanged = [torch.where(crossed, natural, face), torch.where(crossed, face, natural)]
        made = net.syn.render(torch.cat([hf, hf, hn]), maps, torch.cat([real, *exchanged]))
        target = torch.cat([batch["face_lq"], batch["face_syn_lq"], batch["natural_syn_lq"]])
        perceptual, style = Edges().with_style(made, target)
        loss = 10 * 2 * F.l1_loss(made, target) + 0.2 * perceptual + 53.3 * style
        loss = loss + 100 * F.l1_loss(natural, face) + 4 / (10 * F.l1_loss(real, face) + 1e-7)
        loss = loss - 0.01 * judge(made[:2], hf, real).mean()
        one.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        one.step()
        other.zero_grad()
        of_real, of_made = judge(batch["face_lq"], hf, real), judge(made[:2].detach(), hf, real)
        (F.relu(1 - of_real).mean() + F.relu(1 + of_made).mean()).backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 0.5)
        other.step()
    for found, expected in ((module.net, net), (module.discriminator, judge)):
        weights = dict(expected.named_parameters())
        for name, parameter in found.named_parameters():
            torch.testing.assert_close(parameter, weights[name], rtol=0, atol=1e-6, msg=name)


class TestCheckpoints:
    def test_is_read_with_the_averaged_weights_and_is_no_degradation(self, tmp_path):
        fitted(tiny_codes(), 3, [EMA(decay=0.5, every_n_steps=1), LastCheckpoint(str(tmp_path))])
        path = tmp_path / "last.ckpt"
        saved = torch.load(path, weights_only=True)
        net, training = load_reader(path)
        assert training["steps"] == 3 and training["weights"]["same"] == 100
        assert net.syn.residual and net.size == SIDE
        for name, value in net.state_dict().items():
            assert torch.equal(value, saved["state_dict"][f"net.{name}"]), name
        with pytest.raises(UserError, match="make a bank with `ddpm-pairs bank"):
            by_name(str(path))

    def test_a_foreign_class_is_refused(self, tmp_path):
        fitted(tiny_codes(), 1, [LastCheckpoint(str(tmp_path))])
        path = tmp_path / "last.ckpt"
        saved = torch.load(path, weights_only=True)
        saved["ddpm_pairs"]["net"]["class_path"] = "evil.Net"
        torch.save(saved, path)
        with pytest.raises(UserError, match=r"names evil\.Net, which is not ddpm_pairs") as caught:
            load_reader(path)
        assert "\n" not in str(caught.value)

    def test_resumes_bit_exactly(self, tmp_path):
        def run(folder, steps, resume=None):
            callbacks = [EMA(decay=0.9, every_n_steps=1), LastCheckpoint(str(tmp_path / folder))]
            fit = trainer(steps, callbacks=callbacks)
            fit.fit(tiny_codes(halve_at=(2, 4)), TinyFaces(), ckpt_path=resume, weights_only=True)
            return torch.load(tmp_path / folder / "last.ckpt", weights_only=True)

        whole = run("whole", 5)
        run("parts", 3)
        parts = run("parts", 5, tmp_path / "parts" / "last.ckpt")
        assert [state["param_groups"][0]["lr"] for state in parts["optimizer_states"]] == [1e-4 / 4] * 2
        for part in ("state_dict", "current_model_state"):
            for name, value in whole[part].items():
                assert torch.equal(value, parts[part][name]), name


def test_logs_every_loss():
    fit = fitted(tiny_codes(perceptual=Edges()), 2, [TrainingMonitor()])
    losses = ["pixel", "perceptual", "style", "same", "disentangling", "adversarial", "discriminator"]
    assert {f"train/{name}" for name in losses} <= set(fit.callback_metrics)


def test_weights_of_zero_leave_terms_out():
    off = {f"{name}_weight": 0.0 for name in ("perceptual", "style", "disentangling", "adversarial")}
    module, batch = tiny_codes(perceptual=Edges(), **off), faces_of(0, 2)
    codes = module.read(batch)
    assert set(module.losses(batch, codes, torch.rand(6, 3, SIDE, SIDE))) == {"pixel", "same"}


def test_validation_by_hand():
    module = tiny_codes().eval()
    fit = fitted(module, 2)
    module.eval()
    batches = [faces_of(1000, 2), faces_of(1001, 1)]
    with torch.no_grad():
        faces = torch.cat([(module.samples(one)[0] - one["face_lq"]).abs() for one in batches])
        codes = [module.read(one) for one in batches]
        natural = torch.cat(
            [
                (module.net.syn(one["natural_hq"], code.face).clamp(0, 1) - one["natural_syn_lq"]).abs()
                for one, code in zip(batches, codes, strict=True)
            ]
        )
    face, other = torch.cat([one.face for one in codes]), torch.cat([one.natural for one in codes])
    found = fit.callback_metrics
    assert found["val/pixel"].item() == pytest.approx(faces.mean().item(), rel=1e-4)
    assert found["val/crossed_pixel"].item() == pytest.approx(natural.mean().item(), rel=1e-4)
    ratio = (face - other).abs().mean() / (face[[2, 0, 1]] - other).abs().mean()
    assert found["val/code_ratio"].item() == pytest.approx(ratio.item(), rel=1e-4)
    assert found["val/power_gap"] > 0


def test_sample_grids(tmp_path):
    module = tiny_codes()
    logger = CSVLogger(tmp_path, name="logs")
    fitted(module, 4, [CodeSamples(pictures=4, every_n_steps=2)], logger=logger, log_every_n_steps=1)
    files = sorted(path.name for path in (tmp_path / "logs/version_0/samples").iterdir())
    assert files == ["step_0000002.png", "step_0000004.png"]
    module.eval()
    batch = faces_of(1, 2)
    grid = CodeSamples(pictures=2).grid(module, batch)
    cell = 2 * SIDE + 4
    assert grid.shape == (3, 4 + 2 * cell, 4 + 5 * cell)
    columns = [grid[:, 4:cell, 4 + cell * n : cell * (n + 1)][:, ::2, ::2] for n in range(5)]
    codes = module.net.deg(batch["face_hq"], batch["face_lq"])
    expected = [batch["face_hq"], batch["face_lq"], module.net.syn(batch["face_hq"], codes).clamp(0, 1)]
    expected += [batch["natural_hq"], module.net.syn(batch["natural_hq"], codes).clamp(0, 1)]
    for found, wanted in zip(columns, expected, strict=True):
        torch.testing.assert_close(found, wanted[0])


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"pixel_weight": -1.0}, "--model.pixel_weight: got -1.0; expected 0 or more"),
            ({"crossing": 1.5}, "--model.crossing: got 1.5; expected 0 to 1"),
            ({"learning_rate": 0.0}, "--model.learning_rate: got 0.0"),
            ({"gradient_clip": 0.0}, "--model.gradient_clip: got 0.0"),
        ],
    )
    def test_wrong(self, options, said):
        with pytest.raises(UserError, match=said):
            tiny_codes(**options)

    def test_a_run(self):
        fit = SimpleNamespace(precision="32-true", max_steps=100, world_size=1)
        run = SimpleNamespace(verb="fit", trainer=fit, data=SimpleNamespace(crop_size=SIDE))
        tiny_codes().check_run(run)
        run.data.crop_size = 32
        with pytest.raises(UserError, match="--data.crop_size: got 32; expected 16, the size of --model.net"):
            tiny_codes().check_run(run)
        run.verb = "predict"
        with pytest.raises(UserError, match="`predict` needs a bank of codes"):
            tiny_codes().check_run(run)


SCRIPT = """
import sys
import torch
import tiny_gan
import tiny_redegnet
ranks, out = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
module = tiny_redegnet.tiny_codes(gradient_clip=0.5)
data = tiny_redegnet.TinyFaces(4 // ranks)
options = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {}
fit = tiny_gan.trainer(4, precision="64-true", limit_val_batches=0, **options)
fit.fit(module, data)
torch.save(module.state_dict(), f"{out}.{fit.global_rank}")
"""


@pytest.mark.slow
def test_two_ranks_step_like_one_with_the_doubled_batch(tmp_path):
    """Also the disentangling loss, which divides by the mean distance of all ranks."""
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    for ranks in (1, 2):
        command = [sys.executable, str(script), str(ranks), str(tmp_path / f"out{ranks}")]
        subprocess.run(command, check=True, env=environment, cwd=tmp_path, timeout=300)
    alone = torch.load(tmp_path / "out1.0", weights_only=True)
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"out2.{rank}", weights_only=True)
        for name, value in alone.items():
            torch.testing.assert_close(shared[name], value, rtol=0, atol=1e-7, msg=name)
