"""The measurements, each taken from subjects that run side by side."""
