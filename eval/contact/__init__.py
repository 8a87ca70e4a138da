"""The parts of `eval/first_contact.py`: what runs its steps, records them and writes the page."""
