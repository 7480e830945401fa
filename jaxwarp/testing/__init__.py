"""Prove that a port from torch to JAX computes the same: values, gradients, training.

Importing this module imports neither torch nor flax; calling its functions imports what they
need. How much two computations may differ that nobody has analysed is measured on torch's side
alone: its own answer when its operands move by a few units in their last place; see
`jaxwarp.testing._wobble`.

The pytest plugin is `jaxwarp.testing.plugin`.
"""

from jaxwarp.testing._devices import torch_device, torch_device_name, use_torch_device
from jaxwarp.testing._measure import EQUAL, Measured, Tolerance, same
from jaxwarp.testing._parity import assert_module_parity, assert_parity
from jaxwarp.testing._report import Report, Row

__all__ = [
    "EQUAL",
    "Measured",
    "Report",
    "Row",
    "Tolerance",
    "assert_module_parity",
    "assert_parity",
    "same",
    "torch_device",
    "torch_device_name",
    "use_torch_device",
]
