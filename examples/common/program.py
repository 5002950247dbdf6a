"""What the examples share around training: their options, which a checkpoint remembers, and main; program.h is the
same in C++. An example lists the options that are remembered as `kept`, {name: default}.
"""

import sys

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


def prepare(o):
    """Threads and seed, before anything else is made."""
    if o.threads > 0:
        lg.set_num_threads(o.threads)
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


def print_peak_memory():
    print(f"peak memory of tensors {lg.memory.stats()['peak'] / 2**20:.1f} MiB", file=sys.stderr)


def run_program(main):
    """Exits with 2 for what is wrong with the options, or with what they name."""
    try:
        main()
    except (ValueError, TypeError, IndexError, RuntimeError, MemoryError, OSError) as error:
        print(error, file=sys.stderr)  # the message says what to do
        sys.exit(2)
