"""The rules of the house: pure values and functions; no I/O, no clock, no framework."""
