"""The parts of `eval/first_contact.py`: one file per step, and what runs and records them."""
