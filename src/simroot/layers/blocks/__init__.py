"""Layers that are composed of others: the blocks of which networks are made."""
