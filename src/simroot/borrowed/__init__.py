"""Private interfaces of other packages that simroot uses: all of them, each with the reason.

A private name may go with any new version. ``tests/test_borrowed.py`` says which one went, and that no other file uses
one. Before you add a name, look for a public one.
"""
