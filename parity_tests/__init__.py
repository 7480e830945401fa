"""The parity suite: jaxwarp against torch, against theorems, and against itself."""
