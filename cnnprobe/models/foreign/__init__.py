"""Networks of the user's own, made ready to be measured."""
