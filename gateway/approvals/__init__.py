"""Calls that wait for a person: what is asked, the files it is answered through."""
