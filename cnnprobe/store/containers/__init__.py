"""Arrays and texts in the files of other programs: one reader for all of them, see `containers.opening.opened`."""
