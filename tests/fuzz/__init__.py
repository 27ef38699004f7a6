"""Differential fuzzing: what policy read is what every other reader finds in the bytes that left."""
