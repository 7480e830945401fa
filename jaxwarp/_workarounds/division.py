"""The levels of 8-bit pixels (XLA, jaxlib 0.10).

XLA divides by a constant by multiplying with its reciprocal, which rounds half of the 256
levels otherwise than the division that torch and NumPy do. So they are divided here.
"""

import numpy as np

LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)
