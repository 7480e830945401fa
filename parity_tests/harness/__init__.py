"""What the tests share and what is no test: cases, both sides, and what "the same" means."""
