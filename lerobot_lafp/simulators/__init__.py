"""Worlds to try a policy in: the two-way task, an emulated SO-100, gym-aloha with an expert."""
