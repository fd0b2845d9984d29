"""Replaying request streams on a virtual clock."""
