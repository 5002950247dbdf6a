"""What the examples share around training: their options, which a checkpoint remembers, and main; program.h is the
same in C++. An example lists the options that are remembered as `kept`, {name: default}.
"""

import re
import sys

from lightgrad.utils.checkpoint import checkpoint

import lightgrad as lg


def requirement(program):
    """require(holds, otherwise): a ValueError of the program, unless it holds."""

    def require(holds, otherwise):
        if not holds:
            raise ValueError(f"{program}: {otherwise}")

    return require


def attribute(name):
    return name.replace("-", "_")


def add_kept(parser, kept, option, help):
    """Adds the option --name, which is None where the command line leaves it out."""
    default = kept[option.removeprefix("--")]
    parser.add_argument(option, type=type(default), help=f"{help} (default: {default})")


def adopt(o, kept, saved, path, fixed, require):
    """What the command line leaves out is as the checkpoint has it, else as in `kept`; `fixed` ones cannot change."""
    for name, default in kept.items():
        before = saved.get(f"option.{name}") if saved else default
        value = getattr(o, attribute(name))
        if value is None:
            setattr(o, attribute(name), value := before)
        require(
            not (saved and name in fixed) or value == before,
            f"--{name} is {value}, but the model in {path} has {before}",
        )


def put_options(c, o, kept):
    for name in kept:
        c.put(f"option.{name}", getattr(o, attribute(name)))


def at_least(o, least, require):
    """Of each option in {name: least}."""
    for name, n in least.items():
        value = getattr(o, attribute(name))
        require(value >= n, f"--{name} is {value}, expected at least {n}")


DTYPES = "float32", "bfloat16", "float16"


def add_machine(parser, kept):
    """Options of how numbers are computed, and what of the machine that may take. A checkpoint remembers the dtype
    only: the others do not change what comes out.
    """
    add_kept(
        parser,
        kept,
        "--dtype",
        "float32, or what products are computed in: bfloat16, or float16 with a scaled loss",
    )
    parser.add_argument(
        "--checkpoint-activations",
        action="store_true",
        help="compute the blocks again for their gradients, to save memory",
    )
    parser.add_argument(
        "--memory-limit", default="0", help="the most bytes that tensors may hold, as 700M or 1.5G (0: no limit)"
    )
    parser.add_argument("--threads", type=int, default=0, help="threads (0: what the machine has)")


def check_machine(o, require):
    """Also makes a number of the memory limit."""
    require(o.dtype in DTYPES, f'--dtype is "{o.dtype}", expected float32, bfloat16 or float16')
    number = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?)([KMG]?)", o.memory_limit)
    require(
        number,
        f'--memory-limit is "{o.memory_limit}", expected bytes, as 700M or 1.5G (0: no limit)',
    )
    o.memory_limit = int(float(number[1]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[number[2]])
    at_least(o, {"threads": 0}, require)


def autocast(o):
    """For the whole run: products in the dtype that the options ask for."""
    half = lg.float16 if o.dtype == "float16" else lg.bfloat16
    return lg.autocast(dtype=half, enabled=o.dtype != "float32")


def scaler_of(o):
    """float16 has no room for small gradients."""
    return lg.amp.GradScaler(enabled=o.dtype == "float16")


def call_block(block, x, checkpointed):
    """block(x), whose activations may be computed again instead of kept."""
    return checkpoint(block, x) if checkpointed else block(x)


def prepare(o):
    """Threads, memory and seed, before anything else is made."""
    if o.threads > 0:
        lg.set_num_threads(o.threads)
    lg.memory.limit(o.memory_limit)
    lg.manual_seed(o.seed)


def parameter_groups(model, decay):
    """Decay pulls matrices towards zero, not gains and biases."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def count_of(model):
    return sum(p.numel() for p in model.parameters())


def print_skipped(scaler, steps):
    if scaler.is_enabled():
        print(
            f"{scaler.skipped_steps} of {steps} steps skipped for infinite gradients, the loss scale is "
            f"{scaler.get_scale():g}",
            file=sys.stderr,
        )


def print_peak_memory():
    print(f"peak memory of tensors {lg.memory.stats()['peak'] / 2**20:.1f} MiB", file=sys.stderr)


def run_program(main):
    """Exits with 2 for what is wrong with the options, or with what they name."""
    try:
        main()
    except (ValueError, TypeError, IndexError, RuntimeError, MemoryError, OSError) as error:
        print(error, file=sys.stderr)  # the message says what to do
        sys.exit(2)
