"""Lines of loggers on stderr end with the command, for a caller in Python and for the next command."""

import logging

from sdvar.system.log_lines import on_stderr


def test_loggers_are_as_before(capsys):
    logger = logging.getLogger("sdvar.test_log_lines")
    logger.setLevel(logging.ERROR)
    with on_stderr(logger.name):
        logger.info("shown")
    logger.info("not shown")
    assert capsys.readouterr().err == "shown\n"
    assert (logger.handlers, logger.level) == ([], logging.ERROR)
