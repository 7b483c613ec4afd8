"""transfer: what a network learns of a new task, and what it forgets of the old one."""
