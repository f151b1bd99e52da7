"""The frame store: what a training reads again and again of a dataset, decoded once; and batches indexed at once."""
