"""Running the whole application on this machine: no Docker, no AWS account.

``run`` is ``make run``: ``demo`` is what it shows, ``screen`` how, ``providers`` are simulated,
``stores`` keep the flags, and ``consumer`` reads, started by ``consumer_process``.
``processes`` starts and ends child processes, ``stand_in`` is the emulated AWS endpoint, ``deploy``
puts the real template there and ``repairs`` makes up for what that leaves out, ``lambda_rie`` runs
one built function by itself.
Nothing here is shipped.
"""
