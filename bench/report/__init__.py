"""Turns a run's results into a table, the list of targets, plots and a page."""
