"""The jobs behind the Trainer's verbs: each checks everything before any work, and returns the work to do.

A job is a module with ``prepare(run: Run) -> Callable[[], None]``. A LightningModule names its jobs by ``verb_jobs``
(see ``ddpm_pairs.run.Run``); modules without it get ``fit`` and ``generic``.
"""
