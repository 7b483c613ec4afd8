"""The life of a run: executed, resumed, swept, drawn."""
