"""Carry a scenario out: its directory, its record, who calls, who harms, who looks on."""
