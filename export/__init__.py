"""From published weights to the signal bundle that Triton serves: `python -m export --help`."""
