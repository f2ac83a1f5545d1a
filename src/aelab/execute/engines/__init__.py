"""Engines train the runs of a matrix: they take jobs and yield events.

inline.Inline    in this process, one after the other
pool.Pool        in worker processes of this machine, several at once
slurm.Slurm      in the tasks of a Slurm array
ray.Ray          on a Ray cluster
"""
