"""What other suites compute, their defects included: for comparison, and never a default."""
