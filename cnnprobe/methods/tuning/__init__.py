"""tuning: curves of units over manufactured stimuli."""
