"""How fast jaxwarp is next to torch: ``python -m parity_tests.benchmark --help``.

Every public module here is a group of rows: it has a generator ``rows()`` of `Row`. What is
not a row begins with an underscore.
"""
