"""What is saved: whole or refused, told in words, and shared."""
