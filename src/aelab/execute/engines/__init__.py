"""Where the runs of a matrix are trained. An engine takes jobs and gives events.

inline.Inline    in this process, one after the other
pool.Pool        in worker processes of this machine, several at once
slurm.Slurm      in the tasks of a Slurm array
ray.Ray          on a Ray cluster
"""
