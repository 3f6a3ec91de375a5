"""Nets: Linen modules and their layers."""
