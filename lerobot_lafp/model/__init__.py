"""The networks of the three stages, and what is measured while they train."""
