"""The steps of the first contact, one per file; `eval.contact.job` has their order."""
