"""The wall to PyTorch: every private name of it that the product leans on, each with what it is for and what is lost without it.

Rules of this room:

1. A private name of PyTorch stands here and nowhere else; a break in a new release has one address.
2. A name that is missing, or no longer does what it did, raises nothing: the function that leans on it gives its answer for
   "not known", `lost()` says in one sentence what is not seen any more, and all the rest goes on.
3. Every name has a test that it does what we lean on, and one that takes it away.
"""

from gradientflow.torch_internals.compiler import (
    compiler_disabled,
    compiler_is_loaded,
    is_compiler_module,
    never_compile,
    no_more_compiling,
    when_compiling,
)
from gradientflow.torch_internals.frames import (
    calls_module,
    dispatches,
    frame_of_any_thread,
    frames_of_threads,
    initialises,
    layer_being_reset,
    optimizer_being_made,
    running_frame,
    runs_checkpoint,
)
from gradientflow.torch_internals.graph import (
    accumulation_hooks,
    any_global_backward_hook,
    backward_hooks,
    backward_roots,
    backward_task,
    forget_backward_hooks,
    forward_hooks_of,
    function_behind,
    hooks_of,
    is_python_node,
    output_metadata,
    trains,
    weak,
)
from gradientflow.torch_internals.many import add_all, copy_all, norms, subtract_all
from gradientflow.torch_internals.modes import (
    function_modes,
    is_default_device,
    modes_can_be_moved,
    readable,
    saving_is_hooked,
    set_function_modes,
    set_grad_enabled,
    transformed,
    undispatched,
    unseen,
)
from gradientflow.torch_internals.modules import (
    buffers_of,
    children_of,
    is_batch_norm,
    is_dropout,
    is_instance_or_batch_norm,
    is_weight_norm_kernel,
    modules_within,
    parameters_of,
    parameters_within,
)
from gradientflow.torch_internals.wall import INTERNALS, Internal, lost

__all__ = [
    "INTERNALS",
    "Internal",
    "accumulation_hooks",
    "add_all",
    "any_global_backward_hook",
    "backward_hooks",
    "backward_roots",
    "backward_task",
    "buffers_of",
    "calls_module",
    "children_of",
    "compiler_disabled",
    "compiler_is_loaded",
    "copy_all",
    "dispatches",
    "forget_backward_hooks",
    "forward_hooks_of",
    "frame_of_any_thread",
    "frames_of_threads",
    "function_behind",
    "function_modes",
    "hooks_of",
    "initialises",
    "is_batch_norm",
    "is_compiler_module",
    "is_default_device",
    "is_dropout",
    "is_instance_or_batch_norm",
    "is_python_node",
    "is_weight_norm_kernel",
    "layer_being_reset",
    "lost",
    "modes_can_be_moved",
    "modules_within",
    "never_compile",
    "no_more_compiling",
    "norms",
    "optimizer_being_made",
    "output_metadata",
    "parameters_of",
    "parameters_within",
    "readable",
    "running_frame",
    "runs_checkpoint",
    "saving_is_hooked",
    "set_function_modes",
    "set_grad_enabled",
    "subtract_all",
    "trains",
    "transformed",
    "undispatched",
    "unseen",
    "weak",
    "when_compiling",
]
