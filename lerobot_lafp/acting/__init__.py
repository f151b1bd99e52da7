"""From an observation to commands: a chunk, its limits, real-time chunking."""
