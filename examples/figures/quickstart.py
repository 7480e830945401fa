"""Draw the picture of README.md: the warps of examples/quickstart.py, small."""

import runpy
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from jaxwarp import interop

EXAMPLES = Path(__file__).parents[1]
OUTPUT = EXAMPLES / "images" / "quickstart.webp"
SIDE = 400


def main():
    script = runpy.run_path(str(EXAMPLES / "quickstart.py"))
    photo = interop.from_image(Image.fromarray(data.astronaut()).resize((SIDE, SIDE)))
    inputs = photo, script["AFFINE"], script["HOMOGRAPHY"], script["swirl"](*photo.shape[2:])
    warped = [warp() for warp in script["jaxwarp_warps"](*inputs).values()]
    gap = np.full((SIDE, 12, 3), 255, np.uint8)
    panels = [
        p for picture in (photo, *warped) for p in (np.asarray(interop.to_image(picture)), gap)
    ]
    Image.fromarray(np.concatenate(panels[:-1], 1)).save(OUTPUT, quality=85)
    print("wrote", OUTPUT)


if __name__ == "__main__":
    main()
