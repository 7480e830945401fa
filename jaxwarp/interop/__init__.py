"""To and from torch and pictures: tensors, images, trained weights.

Importing this module imports neither torch nor flax; calling its functions imports what
they need.
"""

from jaxwarp.interop._pictures import Picture as Picture
from jaxwarp.interop._pictures import from_image, to_image
from jaxwarp.interop._tensors import from_torch, to_torch
from jaxwarp.interop._weights import IncompatibleKeys as IncompatibleKeys
from jaxwarp.interop._weights import load_state_dict

__all__ = ["from_image", "from_torch", "load_state_dict", "to_image", "to_torch"]
