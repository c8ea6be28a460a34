"""The command line, `python -m takd`: one module per kind of command; `main` holds the group and those about runs."""
