"""A network before and after it learned something else, compared."""
