"""The jobs of the Trainer's verbs: each checks everything before the run starts, and returns the work.

A job is a module with ``prepare(run: Run) -> Callable[[], None]``. A LightningModule names its jobs in ``verb_jobs``
(see ``ddpm_pairs.run.Run``); modules without it use ``fit`` and ``generic``.
"""
