"""The examples under results/, and how they are made: ``make examples``."""
