"""Theoretical receptive fields: how every operation passes them on, by rule or by measurement."""
