"""Torch weights in whole networks, which then train alike."""

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from jaxwarp.interop import load_state_dict
from jaxwarp.nn import Buffer
from parity_tests.harness import flax_models, torch_models, weights
from parity_tests.harness.weights import F64, abstract, channels_last, close, normal, rngs


@pytest.fixture(autouse=True)
def _settings():
    with weights.settings():
        yield


def digits(size, count=8):
    """Real digits, enlarged and turned, with their labels."""
    from sklearn.datasets import load_digits

    flat, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(flat[:count].reshape(count, 1, 8, 8) / 16)
    images = torch.nn.functional.interpolate(images, size=(size, size), mode="bicubic")
    return images.numpy(), labels[:count]


def losses_of_torch(model, loss, steps, rate):
    """Train in place by gradient descent with momentum; return the losses."""
    optimiser = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss(model)
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


class Training:
    """A model that learns by gradient descent with momentum.

    One program is all that is compared: a step also tells the results and the gradient that it
    started from. Compiling takes most of these tests' time.
    """

    def __init__(self, loss_and_results, rate):
        self.rule = optax.sgd(rate, momentum=0.9)

        @nnx.jit
        def step(model, optimiser):
            (loss, results), gradient = nnx.value_and_grad(loss_and_results, has_aux=True)(model)
            optimiser.update(model, gradient)
            return loss, results, gradient

        self.step = step

    def run(self, model, steps):
        """Train in place; return the losses, and the first step's results and gradient."""
        optimiser = nnx.Optimizer(model, self.rule, wrt=nnx.Param)
        first, *others = [self.step(model, optimiser) for _ in range(steps)]
        return [float(loss) for loss, *_ in (first, *others)], *first[1:]


def compare_gradients(gradient, like, theirs, their_loss, **names):
    """Compare the gradient of every parameter; the loader lays torch's out in a model like ours."""
    theirs.zero_grad()
    their_loss(theirs).backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert all(g.abs().max() > 0 for g in gradients.values()), "a zero gradient shows nothing"
    load_state_dict(like, gradients | dict(theirs.named_buffers()), **names)
    found = dict(nnx.to_flat_state(gradient))
    expected = dict(nnx.to_flat_state(nnx.state(like, nnx.Param)))
    assert found.keys() == expected.keys()
    assert len(found) == len(gradients)
    for path, gradient in expected.items():
        close(found[path][...], gradient[...])


@cache
def tutorial_training():
    """Return the training on digits that both tests of the tutorial's network run."""
    images, labels = digits(28)
    x = jnp.moveaxis(jnp.asarray(images), 1, -1)

    def loss_and_results(model):
        warped, scores = model.transformer.warp(x), model(x)
        return -scores[np.arange(len(labels)), labels].mean(), (warped, scores)

    return Training(loss_and_results, 0.01)


@pytest.mark.parametrize("state", ["random", "trained"])
def test_the_tutorials_spatial_transformer(state):
    torch.manual_seed(0)
    theirs: Any = torch_models.TutorialSTN().double()
    images, labels = digits(28)

    def their_loss(model):
        return torch.nn.functional.nll_loss(
            model(torch.from_numpy(images)), torch.from_numpy(labels)
        )

    if state == "random":
        torch.nn.init.normal_(theirs.fc_loc[2].weight, std=0.1)
    else:
        losses = losses_of_torch(theirs, their_loss, 40, 0.01)
        assert losses[-1] < 0.9 * losses[0]
    ours = abstract(lambda: flax_models.TutorialSTN(rngs=rngs(), **F64))
    names = flax_models.TUTORIAL_NAMES
    load_state_dict(ours, theirs.state_dict(), **names)

    like = nnx.clone(ours)
    losses, (warped, scores), gradient = tutorial_training().run(ours, 20)
    identity = np.eye(2, 3)[None]
    assert np.abs(np.asarray(warped.theta) - identity).max() > 0.01
    close(warped.theta, theirs.theta(torch.from_numpy(images)))
    close(jnp.moveaxis(warped.image, -1, 1), theirs.stn(torch.from_numpy(images)))
    close(scores, theirs(torch.from_numpy(images)))
    compare_gradients(gradient, like, theirs, their_loss, **names)
    expected = losses_of_torch(theirs, their_loss, 20, 0.01)
    assert expected[-1] < expected[0]
    close(losses, expected)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_a_small_unet(mode):
    torch.manual_seed(0)
    theirs: Any = torch_models.SmallUNet().double()
    images, target = normal(0, 4, 2, 16, 12), normal(1, 4, 2, 16, 12)
    label = np.array([0, 1, 2, 1])

    def their_loss(model):
        inputs = torch.from_numpy(images), torch.from_numpy(label)
        return (model(*inputs) - torch.from_numpy(target)).square().mean()

    losses_of_torch(theirs, their_loss, 10, 0.05)  # gives BatchNorm something to remember
    ours = abstract(lambda: flax_models.SmallUNet(rngs=rngs(), **F64))
    load_state_dict(ours, theirs.state_dict())
    theirs.train(mode == "training")
    ours.train() if mode == "training" else ours.eval()

    x, y = channels_last(images), channels_last(target)

    def our_loss(model):
        result = model(x, jnp.asarray(label))
        return ((result - y) ** 2).mean(), result

    like = nnx.clone(ours)
    losses, result, gradient = Training(our_loss, 0.05).run(ours, 20)
    close(jnp.moveaxis(result, -1, 1), theirs(torch.from_numpy(images), torch.from_numpy(label)))
    compare_gradients(gradient, like, theirs, their_loss)
    expected = losses_of_torch(theirs, their_loss, 20, 0.05)
    assert expected[-1] < expected[0]
    close(losses, expected)
    assert isinstance(ours.offset, Buffer)
    np.testing.assert_array_equal(ours.offset[...], theirs.offset.numpy())
