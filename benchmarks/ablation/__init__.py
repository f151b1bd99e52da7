"""The ablations: what is run, and how it is shown."""
