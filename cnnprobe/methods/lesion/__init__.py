"""lesion: what is lost when units are taken out."""
