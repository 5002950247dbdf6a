"""How a checkpoint keeps optimizers, schedules and scalers; checkpoint.h is the same in C++."""


def put_optimizer(c, optimizer):
    for i, state in optimizer.state_dict()["state"].items():
        c.put(f"optimizer.{i}.step", state.pop("step"))
        c.put_state(f"optimizer.{i}.", state)


def take_optimizer(c, optimizer):
    """Of an optimizer that has made a step."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        for i in group["params"]:
            state["state"][i] = c.take_state(f"optimizer.{i}.")
            state["state"][i]["step"] = c.get(f"optimizer.{i}.step")
    optimizer.load_state_dict(state)


def go_to(schedule, step):
    """As after `step` steps, of which there was one at least: the learning rates are written too."""
    schedule.load_state_dict({**schedule.state_dict(), "last_epoch": step - 1})
    schedule.step()


SCALER = {"scale": "scale", "growth_tracker": "_growth_tracker", "skipped_steps": "skipped_steps"}


def put_scaler(c, scaler):
    state = scaler.state_dict()
    for name, key in SCALER.items():
        c.put(f"scaler.{name}", state[key])


def take_scaler(c, scaler):
    state = scaler.state_dict()
    for name, key in SCALER.items():
        state[key] = c.get(f"scaler.{name}")
    scaler.load_state_dict(state)
