"""Quality over CPU-minutes: the same five labelled slices, the same budget, each tool's own way."""
