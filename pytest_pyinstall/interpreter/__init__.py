"""Pythons that answered: probed, discovered, run, called, packed, and environments made from them."""
