"""The signature that help() shows for a module's class."""

import inspect
from typing import TypeVar

C = TypeVar("C", bound=type)


class _Constructor:
    """A class attribute whose value is the signature of the class's own constructor."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:  # a module that is called has the signature of its __call__
            raise AttributeError("__signature__")
        of_init = inspect.signature(owner.__init__)
        return of_init.replace(parameters=list(of_init.parameters.values())[1:])


def show_constructor(module: C) -> C:
    """Let a module's class show what its constructor takes, in spite of nnx's metaclass.

    That takes ``*args, **kwargs``, which is all that ``help`` and editors would show.
    """
    module.__signature__ = _Constructor()  # pyright: ignore[reportAttributeAccessIssue]
    return module
