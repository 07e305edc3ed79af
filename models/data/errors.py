"""What is raised where data cannot be used."""


class UnusableData(ValueError):
    """A file cannot be used: says which, where, what was found and what was expected."""
