"""The whole application on this machine, without Docker or an AWS account. Nothing here is shipped.

``run`` is ``make run``, ``invoke`` is ``make invoke``. The stand-in for AWS (``stand_in``, with TLS
by ``relay``) runs the real template (``deploy``, ``repairs``); ``lambda_rie`` runs one function.
"""
