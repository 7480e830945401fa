"""What torch computes on. JAX has a setting of its own."""

_device = "cpu"


def use_torch_device(name: str) -> None:
    """Let torch's side of every comparison compute on ``name``, with full float32 products.

    Args:
        name: What ``torch.device`` takes: "cpu", "cuda", "cuda:1".

    Raises:
        RuntimeError: torch knows no such device.

    Example:
        >>> use_torch_device("cpu")
    """
    import torch

    global _device
    _device = str(torch.device(name))
    # TensorFloat-32 rounds to 10 bits.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def torch_device() -> str:
    """Return the name of the device that torch's side computes on."""
    return _device


def torch_device_name() -> str:
    """Say what torch's side computes on, in the maker's words."""
    if not _device.startswith("cuda"):
        return "CPU"
    import torch

    return torch.cuda.get_device_name(_device)
