"""Running the whole application on this machine: no Docker, no AWS account.

``run`` is ``make run``: ``demo`` is what it shows, ``screen`` how, ``providers`` are simulated,
``stores`` keep the flags, and ``consumer`` reads, started by ``consumer_process``.
``processes`` starts and ends child processes, ``stand_in`` is the emulated AWS endpoint, to which
``relay`` adds TLS with ``certificates`` made on the spot. ``deploy`` puts the real template there,
``repairs`` makes up for what that leaves out, and ``lambda_rie`` runs one built function by itself.
Nothing here is shipped.
"""
