"""What jaxwarp does only because JAX, XLA or jaxlib does something it should not.

One file for each, with the issue or the measurement behind it. A test in
``parity_tests/test_workarounds.py`` shows the fault without the workaround: when that test
fails, the fault is gone, and the file can go too.
"""
