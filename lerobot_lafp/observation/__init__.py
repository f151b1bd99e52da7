"""Cameras, states and the task in words -> tokens."""
