"""`eval/tokens.py`, and trainings on what it stores."""

SAMPLING = {"cfg": 1.5, "top_k": 0, "top_p": 0.0, "temperature": 1.0}  # of the small random target
