"""What compilers make of jaxwarp for a GPU or a TPU: ``python -m parity_tests.compiled --help``.

A program is compiled for a description of a device, so none is needed, and none is used: what
comes out are facts about programs, never a measured speed.
"""
