"""perturb: responses to images whose spectrum is perturbed."""
