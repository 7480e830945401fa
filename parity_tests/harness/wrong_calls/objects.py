"""Wrong calls of what works on objects in images."""

from typing import Any

import numpy as np

from parity_tests.harness.wrong_calls.row import Wrong

IMG, BOXES, THETA = np.zeros((2, 3, 8, 8)), np.array([[0, 0, 4, 4]] * 5), np.zeros((5, 6))
INDEX, PATCHES = np.zeros(5, int), np.zeros((5, 3, 4, 4))


def _brief(value: object) -> str:
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else repr(value)


def _wrong(
    op: str,
    right: dict[str, object],
    error: type[Exception],
    says: tuple[str, ...],
    known: bool = False,
    **changed: object,
) -> Wrong:
    name = ", ".join(f"{name} {_brief(value)}" for name, value in changed.items())
    return Wrong(name, op, (), error, says, right | changed, known=known)


def _patch(*row: Any, **changed: object) -> Wrong:
    right = {"img": IMG, "boxes": BOXES, "theta": THETA, "obj_to_img": INDEX}
    return _wrong("patch_affine", right, *row, **changed)


def _crop(*row: Any, **changed: object) -> Wrong:
    right = {"img": IMG, "boxes": BOXES, "obj_to_img": INDEX, "size": (2, 2)}
    return _wrong("crop_and_resize", right, *row, **changed)


def _paste(*row: Any, **changed: object) -> Wrong:
    right = {"canvas": IMG, "patches": PATCHES, "boxes": BOXES, "obj_to_img": INDEX}
    return _wrong("paste", right, *row, **changed)


TABLE = [
    _patch(TypeError, ("img must be a JAX or NumPy array",), img=[[0.0]]),
    _patch(TypeError, ("img must have a real floating", "int64"), img=IMG.astype(int)),
    _patch(ValueError, ("img must be (N, C, H, W)", "(3, 8, 8)"), img=IMG[0]),
    _patch(ValueError, ("img must be (N, H, W, C)",), img=IMG[0], channel_axis=-1),
    _patch(ValueError, ("img must be", "empty"), img=IMG[:, :, :0]),
    _patch(TypeError, ("boxes must have an integer", "float64"), boxes=BOXES + 0.0),
    _patch(TypeError, ("boxes must be a JAX or NumPy array", "list"), boxes=[[0, 0, 4, 4]]),
    _patch(ValueError, ("boxes must be (K, 4)", "(5, 3)"), boxes=BOXES[:, :3]),
    _patch(ValueError, ("theta must be (5, 6) or (5, 2, 3)",), theta=THETA[:4]),
    _patch(ValueError, ("theta must be", "(5, 3, 2)"), theta=THETA.reshape(5, 3, 2)),
    _patch(TypeError, ("theta must have a real floating",), theta=THETA.astype(int)),
    _patch(ValueError, ("obj_to_img must be (5,)",), obj_to_img=INDEX[:4]),
    _patch(ValueError, ("obj_to_img must be (5,)",), obj_to_img=INDEX[:, None]),
    _patch(TypeError, ("obj_to_img must have an integer", "bool"), obj_to_img=INDEX > 0),
    _patch(TypeError, ("valid must have dtype bool", "int64"), valid=INDEX),
    _patch(ValueError, ("valid must be (5,)",), valid=np.ones(4, bool)),
    _patch(ValueError, ("box_format must be one of 'xyxy', 'yxyx'", "'yx'"), box_format="yx"),
    _patch(ValueError, ("order must be one of 'sequential', 'layered'",), order="any"),
    _patch(ValueError, ("mode must be one of",), mode="linear"),
    _patch(ValueError, ("padding_mode must be one of",), padding_mode="mirror"),
    _patch(ValueError, ("padding_mode must be one name, or one",), padding_mode=("wrap",)),
    _patch(TypeError, ("align_corners must be a bool",), align_corners=1),
    _patch(ValueError, ("channel_axis must be 1 or -1",), channel_axis=2),
    _patch(ValueError, ("max_box must be (height, width)",), max_box=(4,)),
    _patch(ValueError, ("max_box must hold positive",), max_box=(4, 0)),
    _patch(TypeError, ("max_box must be a tuple or list",), max_box=4),
    _patch(TypeError, ("max_box must hold integers",), max_box=(4.0, 4)),
    _patch(
        ValueError, ("max_box must be at least", "(3, 9)", "(4, 4)"), known=True, max_box=(3, 9)
    ),
    _crop(TypeError, ("img must have a real floating",), img=IMG.astype(bool)),
    _crop(TypeError, ("boxes must have a floating-point or integer",), boxes=BOXES > 0),
    _crop(TypeError, ("boxes must have", "complex128"), boxes=BOXES + 1j),
    _crop(ValueError, ("boxes must be (K, 4)",), boxes=BOXES[0]),
    _crop(ValueError, ("obj_to_img must be (5,)",), obj_to_img=INDEX[:1]),
    _crop(ValueError, ("size must be (height, width)",), size=(2, 2, 2)),
    _crop(ValueError, ("size must hold positive",), size=(0, 2)),
    _crop(ValueError, ("padding_mode must be one of",), padding_mode="constant"),
    _crop(ValueError, ("padding_mode must be one name, or one",), padding_mode=("wrap",) * 3),
    _paste(ValueError, ("canvas must be (N, C, H, W)",), canvas=IMG[0]),
    _paste(ValueError, ("patches must be (N, C, H, W)",), patches=PATCHES[0]),
    _paste(ValueError, ("patches must be 5 patches", "3 channels"), patches=PATCHES[:4]),
    _paste(ValueError, ("patches must be 5 patches", "3 channels"), patches=PATCHES[:, :2]),
    _paste(TypeError, ("patches must have a real floating",), patches=PATCHES.astype(int)),
    _paste(ValueError, ("mode must be one of",), mode="cubic"),
    _paste(ValueError, ("max_box must be at least", "(3, 3)"), known=True, max_box=(3, 3)),
    _paste(TypeError, ("valid must have dtype bool",), valid=INDEX),
]
