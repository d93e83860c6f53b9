"""Finds, probes, runs and packs Pythons, and makes virtual environments from them."""
