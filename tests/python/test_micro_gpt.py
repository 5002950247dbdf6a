"""examples/micro_gpt: the C++ and the Python program give the same bits, survive SIGKILL, save memory
by accumulation, refuse bad options, and agree with nanoGPT's model in PyTorch.
"""

import math
import random
import re
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from example_program import ExampleProgram

import lightgrad as lg

EXAMPLE = ExampleProgram("micro_gpt")
PROGRAMS = EXAMPLE.commands
SMALL = ("--layers", "2", "--width", "32", "--heads", "2", "--context", "24", "--batch", "4")


@pytest.fixture(params=PROGRAMS)
def program(request):
    return EXAMPLE.command(request.param)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sentences of words drawn at random: something to learn, without a download."""
    source = random.Random(0)
    letters = "etaoinshrdlu"
    words = ["".join(source.choices(letters, k=source.randint(1, 7))) for _ in range(60)]
    sentences = (" ".join(source.choices(words, k=8)).capitalize() + ".\n" for _ in range(900))
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(sentences))
    return path


def run(program, *options, expect=0):
    done = subprocess.run([*program, *map(str, options)], capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stderr
    return done


def checkpoint(folder):
    return (folder / "checkpoint.safetensors").read_bytes()


def peak_mebibytes(done):
    return float(re.search(r"peak memory of tensors ([\d.]+) MiB", done.stderr)[1])


def default_options():
    kept = EXAMPLE.load("model", "train").KEPT.items()
    options = {name.replace("-", "_"): value for name, value in kept}
    return SimpleNamespace(**options, checkpoint_activations=False)


@pytest.mark.parametrize(
    ("dropout", "dtype"), [(0.0, "float32"), (0.2, "float32"), (0.2, "bfloat16"), (0.2, "float16")]
)
def test_both_programs_give_the_same_bits_at_any_thread_count(text, tmp_path, dropout, dtype):
    EXAMPLE.need_binary()
    options = ("--data", text, *SMALL, "--dropout", dropout, "--dtype", dtype, "--steps", 20, "--eval-every", 1)
    outputs = {}
    for name, threads in [("cpp", 1), ("cpp", 4), ("python", 2)]:
        out = tmp_path / f"{name}{threads}"
        done = run(PROGRAMS[name], *options, "--out", out, "--threads", threads)
        outputs[name, threads] = done.stdout, checkpoint(out)
    first, *others = outputs.values()
    assert all(other == first for other in others)
    lines = first[0].splitlines()
    assert lines[0].startswith("step     0  val ")
    assert lines[20].startswith("step    20  train ")
    assert lines[-1].startswith("val_loss ")
    losses = [float(line.split()[3]) for line in lines[1:21]]
    assert losses[-1] < losses[0] - 0.3  # it learns


@pytest.mark.parametrize(("dtype", "steps"), [("float32", 50), ("bfloat16", 30), ("float16", 10)])
def test_steps_of_the_whole_model_give_the_same_bits_at_1_2_4_and_8_threads(text, tmp_path, dtype, steps):
    EXAMPLE.need_binary()  # at its default size: the kernels of a smaller model do not share out their work
    options = ("--data", text, "--dropout", 0.1, "--dtype", dtype, "--steps", steps, "--eval-every", steps)
    outputs = set()
    for threads in (1, 2, 4, 8):
        out = tmp_path / str(threads)
        done = run(PROGRAMS["cpp"], *options, "--out", out, "--threads", threads)
        outputs.add((done.stdout, checkpoint(out)))
    assert len(outputs) == 1


@pytest.mark.parametrize(("dropout", "dtype"), [(0.0, "float32"), (0.2, "bfloat16"), (0.2, "float16")])
def test_killed_and_resumed_ends_with_the_same_bits(program, text, tmp_path, dropout, dtype):
    options = ("--data", text, *SMALL, "--dropout", dropout, "--dtype", dtype, "--steps", 60, "--eval-every", 4)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(program, *options, "--out", whole).stdout

    moments = random.Random()  # a new moment in every run of the tests
    command = [*program, *map(str, options), "--out", str(broken)]
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        command = [*program, "--out", str(broken), "--resume"]
        assert (broken / "checkpoint.safetensors").exists()
    resumed = run(program, "--out", broken, "--resume", "--threads", 1).stdout
    assert expected.endswith(resumed)
    assert checkpoint(broken) == checkpoint(whole)
    assert [f.name for f in broken.iterdir()] == ["checkpoint.safetensors"]


def test_a_finished_run_only_writes_its_sample(program, text, tmp_path):
    options = ("--data", text, *SMALL, "--steps", 3, "--out", tmp_path)
    first = run(program, *options).stdout.splitlines()
    again = run(program, "--out", tmp_path, "--resume").stdout.splitlines()
    assert again == first[2:]


def test_each_program_goes_on_from_the_others_checkpoint(text, tmp_path):
    EXAMPLE.need_binary()
    outputs = []
    for first, second in [("cpp", "python"), ("python", "cpp")]:
        out = tmp_path / first
        run(PROGRAMS[first], "--data", text, *SMALL, "--steps", 4, "--out", out)
        done = run(PROGRAMS[second], "--steps", 8, "--out", out, "--resume")
        outputs.append((done.stdout, checkpoint(out)))
    assert outputs[0] == outputs[1]


def test_samples(text, tmp_path):
    EXAMPLE.need_binary()
    run(PROGRAMS["cpp"], "--data", text, *SMALL, "--steps", 5, "--out", tmp_path)
    for more in [(), ("--top-k", 3), ("--temperature", 0.1, "--seed", 7)]:
        options = ("--out", tmp_path, "--sample", 60, *more)
        samples = [run(p, *options).stdout for p in PROGRAMS.values()]
        assert samples[0] == samples[1]
        assert len(samples[0]) == 61
        assert set(samples[0]) <= set(text.read_text())
    other = run(PROGRAMS["cpp"], "--out", tmp_path, "--sample", 60, "--seed", 8).stdout
    assert other != run(PROGRAMS["cpp"], "--out", tmp_path, "--sample", 60).stdout


def test_accumulation_needs_a_fraction_of_the_memory(program, text, tmp_path):
    options = ("--data", text, "--batch", 16, "--layers", 2, "--steps", 2)
    whole, parts = (run(program, *options, "--accumulate", n, "--out", tmp_path / str(n)) for n in (1, 8))
    assert peak_mebibytes(parts) < 0.5 * peak_mebibytes(whole)
    val = [float(done.stdout.split()[-1]) for done in (whole, parts)]
    assert val[0] == pytest.approx(val[1], abs=1e-5)


def test_half_precision_learns_as_well(program, text, tmp_path):
    options = ("--data", text, *SMALL, "--steps", 60)
    outputs = {
        dtype: run(program, *options, "--dtype", dtype, "--out", tmp_path / dtype)
        for dtype in ("float32", "bfloat16", "float16")
    }
    losses = {dtype: float(done.stdout.split()[-1]) for dtype, done in outputs.items()}
    assert losses["float32"] != losses["bfloat16"] != losses["float16"]
    assert max(losses.values()) - min(losses.values()) < 0.01
    assert "0 of 60 steps skipped for infinite gradients, the loss scale is 65536" in outputs["float16"].stderr
    assert "skipped" not in outputs["bfloat16"].stderr


def test_skipped_steps_are_counted_reported_and_remembered(text, tmp_path):
    EXAMPLE.need_binary()
    outputs = []
    for first, second in [("cpp", "python"), ("python", "cpp")]:
        out = tmp_path / first
        run(PROGRAMS[first], "--data", text, *SMALL, "--steps", 4, "--dtype", "float16", "--out", out)
        EXAMPLE.raise_scale(out)
        run(PROGRAMS[first], "--steps", 10, "--resume", "--out", out)
        done = run(PROGRAMS[second], "--steps", 50, "--resume", "--out", out)
        skipped = int(re.search(r"(\d+) of 50 steps skipped for infinite gradients", done.stderr)[1])
        saved = lg.load(out / "checkpoint.safetensors")
        assert saved["scaler.skipped_steps"] == skipped > 6
        assert saved["scaler.scale"] == 2.0 ** (40 - skipped)
        outputs.append((done.stdout, checkpoint(out)))
    assert outputs[0] == outputs[1]


def test_checkpoints_of_activations_save_memory_and_change_no_bit(program, text, tmp_path):
    options = ("--data", text, "--batch", 16, "--layers", 4, "--width", 64, "--dropout", 0.2, "--steps", 3)
    plain, again = (
        run(program, *options, *more, "--out", tmp_path / str(len(more)))
        for more in ((), ("--checkpoint-activations",))
    )
    assert again.stdout == plain.stdout
    assert checkpoint(tmp_path / "1") == checkpoint(tmp_path / "0")
    assert peak_mebibytes(again) < 0.6 * peak_mebibytes(plain)


def test_a_limit_of_memory_is_kept_or_says_who_holds_it(program, text, tmp_path):
    options = ("--data", text, "--batch", 32, "--steps", 2)
    plain = run(program, *options, "--out", tmp_path / "plain")
    limit = f"{0.6 * peak_mebibytes(plain) * 2**20 / 1e6:.3f}M"
    failed = run(program, *options, "--memory-limit", limit, "--out", tmp_path / "failed", expect=2)
    assert re.search(r"out of memory: asked for \d+ bytes, \d+ in use of a limit of \d+, .*activations", failed.stderr)
    small = run(program, *options, "--memory-limit", limit, "--accumulate", 4, "--out", tmp_path / "small")
    assert peak_mebibytes(small) * 2**20 <= float(limit[:-1]) * 1e6
    val = [float(done.stdout.split()[-1]) for done in (plain, small)]
    assert val[0] == pytest.approx(val[1], abs=1e-5)


def test_accumulation_makes_the_update_of_the_whole_batch(text):
    """Gradients within 1e-6 of the largest, and after three steps of the default schedule every
    weight within 1e-6.
    """
    example, o = EXAMPLE.load("model", "train"), default_options()
    data = text.read_bytes()

    def train(parts):
        lg.manual_seed(o.seed)
        r = example.Run(o, data)
        ids, rows = r.vocabulary.encode(data), o.batch // parts
        gradients = None
        for _ in range(3):
            x, y = example.next_batch(ids, o, r.batches)
            for i in range(0, o.batch, rows):
                (example.loss_of(r.model, x[i : i + rows], y[i : i + rows]) / parts).backward()
            gradients = gradients or [p.grad.clone() for p in r.model.parameters()]
            lg.nn.utils.clip_grad_norm_(list(r.model.parameters()), 1.0)
            r.optimizer.step()
            r.optimizer.zero_grad()
            r.schedule.step()
        return gradients, list(r.model.parameters())

    gradients, weights = train(1)
    for parts in (3, 12):
        other_gradients, other_weights = train(parts)
        for g, other in zip(gradients, other_gradients, strict=True):
            assert (g - other).abs().max().item() <= 1e-6 * g.abs().max().item()
        for w, other in zip(weights, other_weights, strict=True):
            assert (w - other).abs().max().item() <= 1e-6


BAD = [
    (("--width", 33), "--width is 33, which 2 heads cannot share equally"),
    (("--context", 10**6), "--context is 1000000, "),
    (("--data", "nowhere/text.txt"), "nowhere/text.txt"),
    (("--lr", "nan"), "--lr is nan, expected a number above 0"),
    (("--lr", "-1"), "--lr is -1, expected a number above 0"),
    (("--dropout", 1), "--dropout is 1, expected a number from 0 up and below 1"),
    (("--steps", 0), "--steps is 0, expected at least 1"),
    (("--steps", "many"), "many"),
    (("--layers", -3), "--layers is -3, expected at least 1"),
    (("--accumulate", 3), "--batch is 4, which --accumulate 3 does not divide"),
    (("--temperature", 0), "--temperature is 0, expected a number above 0"),
    (("--dtype", "int8"), '--dtype is "int8", expected float32, bfloat16 or float16'),
    (("--memory-limit", "much"), '--memory-limit is "much", expected bytes, as 700M or 1.5G (0: no limit)'),
    (("--memory-limit", "1e3"), '--memory-limit is "1e3", expected bytes'),
    (("--threads", -1), "--threads is -1, expected at least 0"),
    (("--unknown", 1), "--unknown"),
    (("--resume",), "checkpoint.safetensors"),
    (("--sample", 5), "checkpoint.safetensors"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda p: "".join(map(str, p))[:24])
def test_bad_options_are_named_and_write_nothing(program, text, tmp_path, options, message):
    out = tmp_path / "out"
    done = run(program, "--data", text, *SMALL, "--out", out, *options, expect=2)
    assert message in done.stderr
    assert done.stdout == ""
    assert not out.exists()


def test_a_checkpoint_of_another_model_is_refused(program, text, tmp_path):
    out = tmp_path / "out"
    run(program, "--data", text, *SMALL, "--steps", 2, "--out", out)
    before = checkpoint(out)
    other = tmp_path / "other.txt"
    other.write_text(text.read_text() + "#")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "checkpoint.safetensors").write_bytes(before[: len(before) // 2])
    for options, message in [
        (("--layers", 3), "--layers is 3, but the model in"),
        (("--seed", 5), "--seed is 5, but the model in"),
        (("--data", other), "has learned a text of other characters than"),
        (("--out", damaged), "checkpoint.safetensors"),
    ]:
        done = run(program, "--out", out, "--resume", *options, expect=2)
        assert message in done.stderr
        assert checkpoint(out) == before


# --- against PyTorch ---


def nano_gpt(torch, vocabulary, context, layers, heads, width):
    """nanoGPT's model.py with bias=False."""
    nn, F = torch.nn, torch.nn.functional

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, x):
            return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.c_attn = nn.Linear(width, 3 * width, bias=False)
            self.c_proj = nn.Linear(width, width, bias=False)

        def forward(self, x):
            B, T, C = x.size()
            q, k, v = (
                part.view(B, T, heads, C // heads).transpose(1, 2) for part in self.c_attn(x).split(width, dim=2)
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

    class MLP(nn.Module):
        def __init__(self):
            super().__init__()
            self.c_fc = nn.Linear(width, 4 * width, bias=False)
            self.c_proj = nn.Linear(4 * width, width, bias=False)

        def forward(self, x):
            return self.c_proj(F.gelu(self.c_fc(x)))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.attn, self.ln_2, self.mlp = Norm(), Attention(), Norm(), MLP()

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.transformer = nn.ModuleDict(
                {
                    "wte": nn.Embedding(vocabulary, width),
                    "wpe": nn.Embedding(context, width),
                    "h": nn.ModuleList([Block() for _ in range(layers)]),
                    "ln_f": Norm(),
                }
            )
            self.lm_head = nn.Linear(width, vocabulary, bias=False)
            self.lm_head.weight = self.transformer.wte.weight

        def forward(self, ids, targets):
            t = self.transformer
            x = t.wte(ids) + t.wpe(torch.arange(ids.shape[1]))
            for block in t.h:
                x = block(x)
            logits = self.lm_head(t.ln_f(x))
            return F.cross_entropy(logits.view(-1, vocabulary), targets.reshape(-1))

    return GPT()


def test_losses_and_gradients_are_those_of_nanogpt_in_pytorch(text):
    torch = pytest.importorskip("torch")
    example, o = EXAMPLE.load("model", "train"), default_options()
    data = text.read_bytes()
    lg.manual_seed(3)
    ours = example.Run(o, data)
    ids = ours.vocabulary.encode(data)

    theirs = nano_gpt(torch, len(ours.vocabulary), o.context, o.layers, o.heads, o.width)
    tensor = lambda t: torch.tensor(t.tolist())
    theirs.load_state_dict({name: tensor(t) for name, t in ours.model.state_dict().items()})
    matrices = [p for p in theirs.parameters() if p.dim() >= 2]
    gains = [p for p in theirs.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}],
        lr=o.lr,
        betas=(0.9, 0.99),
    )

    for step in range(20):
        x, y = example.next_batch(ids, o, ours.batches)
        loss = example.loss_of(ours.model, x, y)
        loss.backward()
        # nanoGPT's get_lr: 100 steps of warm-up, then the cosine, here not reached.
        for group in optimizer.param_groups:
            group["lr"] = o.lr * (step + 1) / 101
        assert ours.optimizer.param_groups[0]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        expected = theirs(tensor(x), tensor(y))
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5), step
        if step == 0:
            reference = dict(theirs.named_parameters())
            for name, p in ours.model.named_parameters():
                g = reference[name].grad
                difference = (tensor(p.grad) - g).abs().max() / g.abs().max()
                assert difference <= 1e-4, name
        lg.nn.utils.clip_grad_norm_(list(ours.model.parameters()), 1.0)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        for steps in (ours.optimizer, optimizer):
            steps.step()
            steps.zero_grad()
        ours.schedule.step()


def test_the_schedule_is_nanogpts():
    weight = lg.nn.Parameter(lg.zeros(1))
    optimizer = lg.optim.AdamW([weight], lr=1e-3)
    schedule = lg.optim.lr_scheduler.WarmupCosine(optimizer, 100, 2000, 1e-4)

    def get_lr(it):  # nanoGPT, train.py
        if it < 100:
            return 1e-3 * (it + 1) / 101
        coeff = 0.5 * (1.0 + math.cos(math.pi * (it - 100) / 1900))
        return 1e-4 + coeff * (1e-3 - 1e-4)

    for step in range(2000):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(get_lr(step), rel=1e-12)
        schedule.step()
