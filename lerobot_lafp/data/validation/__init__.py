"""What a dataset holds, what of it does not look right, and whether a checkpoint or a robot fits it."""
