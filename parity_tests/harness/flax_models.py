"""The same models in Flax, channels last, with jaxwarp's layers."""

import jax.numpy as jnp
from flax import nnx

from jaxwarp.nn import Buffer, LocalizationNet, SpatialTransformer

# How the tutorial's network is loaded: what it calls the parts, and what it flattens.
TUTORIAL_NAMES = {
    "rename": {
        "localization": "transformer.localization.features",
        "fc_loc": "transformer.localization.regressor",
    },
    "flattened": {"fc_loc.0": (10, 3, 3), "fc1": (20, 4, 4)},
}


class TutorialSTN(nnx.Module):
    """`torch_models.TutorialSTN`: its localisation network is the default one."""

    def __init__(self, **options):
        self.transformer = SpatialTransformer(LocalizationNet((28, 28, 1), **options))
        self.conv1 = nnx.Conv(1, 10, (5, 5), padding="VALID", **options)
        self.conv2 = nnx.Conv(10, 20, (5, 5), padding="VALID", **options)
        self.fc1 = nnx.Linear(320, 50, **options)
        self.fc2 = nnx.Linear(50, 10, **options)

    def __call__(self, x):
        x = self.transformer(x)
        x = nnx.relu(_halve(self.conv1(x)))
        x = nnx.relu(_halve(self.conv2(x)))
        x = nnx.relu(self.fc1(x.reshape(-1, 320)))
        return nnx.log_softmax(self.fc2(x))


class SmallUNet(nnx.Module):
    """`torch_models.SmallUNet`, with torch's epsilon and momentum."""

    def __init__(self, **options):
        def down(features, width, norm):
            return nnx.Sequential(nnx.Conv(features, width, (3, 3), **options), norm, nnx.relu)

        batch_norm = nnx.BatchNorm(6, momentum=0.9, epsilon=1e-5, **options)
        group_norm = nnx.GroupNorm(8, 2, epsilon=1e-5, **options)
        self.down = nnx.List([down(2, 6, batch_norm), down(6, 8, group_norm)])
        self.bottom = nnx.Conv(8, 12, (3, 3), kernel_dilation=2, feature_group_count=2, **options)
        self.classes = nnx.Embed(3, 12, **options)
        self.norm = nnx.LayerNorm(12, epsilon=1e-5, **options)
        # Torch's padding takes away what Flax's adds: dilation * (kernel - 1) - padding.
        self.up = nnx.List(
            [
                nnx.ConvTranspose(12, 8, (2, 2), strides=2, padding="VALID", **options),
                nnx.ConvTranspose(
                    16,
                    6,
                    (4, 4),
                    strides=2,
                    padding=((2, 2), (2, 2)),
                    use_bias=False,
                    transpose_kernel=True,
                    **options,
                ),
            ]
        )
        self.head = nnx.Conv(12, 2, (1, 1), **options)
        dtype = options.get("param_dtype", jnp.float32)
        self.gain = nnx.Param(jnp.ones(2, dtype))
        self.offset = Buffer(jnp.zeros(2, dtype))

    def __call__(self, x, label):
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = _halve(x)
        x = nnx.relu(self.bottom(x)) + self.classes(label)[:, None, None]
        x = self.norm(x)
        for upsample, skip in zip(self.up, reversed(skips), strict=True):
            x = jnp.concatenate([nnx.relu(upsample(x)), skip], axis=-1)
        scale, shift = self.gain[...], self.offset[...]
        return self.head(x) * scale[None, None, None] + shift[None, None, None]


def _halve(x):
    return nnx.max_pool(x, (2, 2), strides=(2, 2))
