"""The network as it came, kept to be compared with what it becomes."""

from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.calls import parameters_behind
from cnnprobe.instruments.network.snapshots import copy_of
from cnnprobe.instruments.network.tracing import Value, leaves, trace_anew


def as_it_came(model: nn.Module, size: tuple[int, ...]) -> nn.Module:
    """Return a copy of a network, which stays what it is while the network learns.

    Args:
        model: the network.
        size: (channel, y, x) or (channel, time) of the images.

    Raises:
        UserError: it cannot be copied, or its copy would compute with the parameters of the network.
    """
    way = "forgetting=none does without a copy"
    try:
        made = copy_of(model)
    except UserError as error:
        raise UserError(f"{error}; {way}") from None
    own: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    given = leaves([(call.arguments, call.keywords) for call in trace_anew(made, size, learning=True).calls], Value)
    used = set().union(*(parameters_behind(value.constant) for value in given))
    if shared := [name for parameter, name in own.items() if parameter in used]:
        raise UserError(
            f"the network cannot be copied: a function in it reads {shared[0]} of this network, whichever copy calls "
            f"it; write it as a method; {way}"
        )
    return made
