"""From a batch to losses, and what is checked before the first step."""
