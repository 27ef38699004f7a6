"""Provider wire formats, one module each."""
