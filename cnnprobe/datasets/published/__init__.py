"""Collections of photographs that others have published, in the files in which they are had."""
