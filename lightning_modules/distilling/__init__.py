"""A draft for a target of one's own: trained by the target itself, on images that the target samples.

`options` reads the command line, `job` builds and runs, `distiller` is the LightningModule, `teacher` the target with
what it samples, `student` the draft before training, `card` what is written at the end.
"""
