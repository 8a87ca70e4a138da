"""Ends a program whose working directory is gone: the libraries that torch loads would abort in words of their own."""

import os

try:
    os.getcwd()
except FileNotFoundError:
    raise SystemExit("error: the working directory was removed; change to another one") from None
