"""The faults, by subject. Each module has ``FAULTS``."""
