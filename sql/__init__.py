"""Package data: see docs/design.md."""
